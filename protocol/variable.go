package protocol

// CheckVariable refuses the value of a variable of ours, CCAGENT_..., that holds a control character such as a line break, or
// that begins or ends with a blank (ErrConfig). Whoever has set it did not mean that, and two programs could read it in two ways.
// An empty value is right: it means that the variable is not set.
func CheckVariable(name, value string) error {
	wrong := ""
	for i := range len(value) {
		if value[i] < ' ' || value[i] == 0x7f {
			wrong = "holds a line break or another control character"
		}
	}
	if n := len(value); wrong == "" && n > 0 && (value[0] == ' ' || value[n-1] == ' ') {
		wrong = "begins or ends with a blank"
	}
	if wrong == "" {
		return nil
	}
	if name == "CCAGENT_HEADER" { // it is the name of a header, and somebody puts the header with its token there
		wrong += "; it is not shown, as it may be a secret"
	} else {
		wrong += ": " + quote(value)
	}
	return &Error{Code: CodeConfig, Message: "$" + name + " " + wrong,
		Hint: "unset " + name + ", or set it without that"}
}

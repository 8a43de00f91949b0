package signin

import (
	"strings"

	"rsc.io/qr"
)

// quiet is the margin around a QR code, in modules. The standard asks for 4; phones do with 2, and terminals are narrow.
const quiet = 2

// qrCode draws text as a QR code of half blocks. It is empty if the terminal is too narrow. With colour, the code is dark on
// light whatever colours the terminal has. Without, its light parts are drawn, and the terminal's background is the dark.
func qrCode(text string, width int, colour bool) string {
	code, err := qr.Encode(text, qr.L)
	if err != nil || width < 40 || code.Size+2*quiet > width {
		return ""
	}
	dark := func(x, y int) bool { return code.Black(x, y) } // false outside of the code
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		if colour {
			b.WriteString("\x1b[30;107m")
		}
		for x := -quiet; x < code.Size+quiet; x++ {
			above, below := dark(x, y), dark(x, y+1)
			if !colour { // the light parts are drawn
				above, below = !above, !below
			}
			b.WriteString(half(above, below))
		}
		if colour {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func half(above, below bool) string {
	switch {
	case above && below:
		return "█"
	case above:
		return "▀"
	case below:
		return "▄"
	}
	return " "
}

// font has the capitals and digits in 5 rows of 3 dots. Each digit of a string is the bits of one row.
var font = map[rune]string{
	'A': "25755", 'B': "65656", 'C': "34443", 'D': "65556", 'E': "74647", 'F': "74644", 'G': "34553", 'H': "55755", 'I': "72227",
	'J': "11152", 'K': "55655", 'L': "44447", 'M': "57755", 'N': "65555", 'O': "25552", 'P': "65644", 'Q': "25563", 'R': "65655",
	'S': "34216", 'T': "72222", 'U': "55557", 'V': "55552", 'W': "55775", 'X': "55255", 'Y': "55222", 'Z': "71247",
	'0': "75557", '1': "26227", '2': "61247", '3': "61216", '4': "55711", '5': "74616", '6': "34757", '7': "71122", '8': "75757",
	'9': "75716", '-': "00700", ' ': "00000",
}

// largeText draws a code in three lines. It is empty if the code does not fit the width, or has characters that font lacks.
func largeText(text string, width int) string {
	if len(text)*4 > width {
		return ""
	}
	var b strings.Builder
	for row := 0; row < 6; row += 2 {
		for _, r := range text {
			glyph, ok := font[r]
			if !ok {
				return ""
			}
			above, below := glyph[row]-'0', byte(0)
			if row+1 < len(glyph) {
				below = glyph[row+1] - '0'
			}
			for bit := byte(4); bit > 0; bit >>= 1 {
				b.WriteString(half(above&bit != 0, below&bit != 0))
			}
			b.WriteByte(' ')
		}
		b.WriteByte('\n')
	}
	return b.String()
}

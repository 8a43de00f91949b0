package process

import (
	"bytes"
	"os"
	"strconv"
)

// Of describes a process by what /proc says of it (proc_pid_stat(5)). ok is false when there is none of that id.
func Of(pid int32) (p Info, ok bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/stat")
	// The name stands in parentheses, and may hold spaces and parentheses itself.
	name, rest := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if err != nil || name < 0 || rest < name {
		return p, false
	}
	const parentField, startField = 1, 19 // counted from the field after the name
	fields := bytes.Fields(stat[rest+1:])
	if len(fields) <= startField {
		return p, false
	}
	parent, err := strconv.ParseInt(string(fields[parentField]), 10, 32)
	if err != nil {
		return p, false
	}
	start, err := strconv.ParseUint(string(fields[startField]), 10, 64)
	return Info{ID{pid, start}, int32(parent), string(stat[name+1 : rest])}, err == nil
}

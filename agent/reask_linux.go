package agent

import (
	"bytes"
	"os"
	"strconv"
)

// processOf reads what /proc says of a process (proc_pid_stat(5)).
func processOf(pid int32) (p process, ok bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/stat")
	name, rest := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')') // a name may hold both
	if err != nil || name < 0 || rest < name {
		return p, false
	}
	fields := bytes.Fields(stat[rest+1:])
	if len(fields) < 20 {
		return p, false
	}
	parent, err := strconv.ParseInt(string(fields[1]), 10, 32)
	if err != nil {
		return p, false
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return process{consumer{pid, start}, int32(parent), string(stat[name+1 : rest])}, err == nil
}

#include "textflag.h"

// entry is where the process begins, with argc at the top of the stack. If ask returns, the runtime starts.
TEXT ·entry(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVD RSP, R0
	SUB  $16, RSP
	MOVD R0, 8(RSP)
	MOVD $·goroutine(SB), g
	CALL ·ask(SB)
	ADD  $16, RSP
	JMP  _rt0_arm64_linux(SB)

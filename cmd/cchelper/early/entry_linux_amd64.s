#include "textflag.h"

// entry is where the process begins, with argc at the top of the stack (System V ABI, AMD64 supplement, §3.4.1). The call of ask
// loads the goroutine through the thread pointer, so that is set first. If that fails, or if ask returns, the runtime starts.
TEXT ·entry(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	LEAQ ·goroutine(SB), AX
	MOVQ AX, ·thread(SB)
	LEAQ ·thread+8(SB), SI         // the goroutine is at -8
	MOVQ $0x1002, DI               // ARCH_SET_FS
	MOVQ $158, AX                  // arch_prctl
	SYSCALL
	TESTQ AX, AX
	JNE  runtime
	MOVQ SP, AX
	SUBQ $16, SP
	MOVQ AX, 0(SP)
	CALL ·ask(SB)
	ADDQ $16, SP
runtime:
	JMP  _rt0_amd64_linux(SB)

#include "textflag.h"

// The entry point, with argc at the top of the stack (System V ABI, AMD64 supplement, §3.4.1). A call of a Go function from here loads the
// goroutine by the thread pointer.
TEXT ·early(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
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

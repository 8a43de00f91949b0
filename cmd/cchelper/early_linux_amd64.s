#include "textflag.h"

// The entry point, with argc at the top of the stack (System V ABI, AMD64 supplement, §3.4.1). A call of a Go function from here loads the
// goroutine by the thread pointer: it must point somewhere.
TEXT ·early(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVQ $158, AX                  // arch_prctl
	MOVQ $0x1002, DI               // ARCH_SET_FS
	LEAQ ·noGoroutine+8(SB), SI    // the goroutine is at -8
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

/*
 * The floor for cchelper: a program without any runtime that makes the same system calls as cchelper does before Go's runtime
 * starts (cmd/cchelper/early), in the same order, and to the same agent. It does nothing else: the paths and the request are
 * compiled in.
 *
 * bench compiles it with the machine's C compiler: see floor.go, which defines
 *   FOLDER   the folder of the agent's socket, a string
 *   SOCKET   the socket's path, a string
 *   REQUEST  the bytes of the request, separated by commas
 */

typedef unsigned long word;

#if defined(__x86_64__)
enum {
	SYS_read = 0, SYS_writev = 20, SYS_socket = 41, SYS_connect = 42, SYS_sendto = 44, SYS_shutdown = 48, SYS_fcntl = 72, SYS_getcwd = 79,
	SYS_geteuid = 107, SYS_prctl = 157, SYS_arch_prctl = 158, SYS_exit_group = 231, SYS_newfstatat = 262, SYS_ppoll = 271,
};

static word call(word number, word a, word b, word c, word d, word e, word f)
{
	register word r10 __asm__("r10") = d;
	register word r8 __asm__("r8") = e;
	register word r9 __asm__("r9") = f;
	word result;
	__asm__ volatile("syscall"
		: "=a"(result)
		: "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
enum {
	SYS_getcwd = 17, SYS_fcntl = 25, SYS_read = 63, SYS_writev = 66, SYS_ppoll = 73, SYS_newfstatat = 79, SYS_exit_group = 94, SYS_prctl = 167,
	SYS_geteuid = 175, SYS_socket = 198, SYS_connect = 203, SYS_sendto = 206, SYS_shutdown = 210,
};

static word call(word number, word a, word b, word c, word d, word e, word f)
{
	register word x8 __asm__("x8") = number;
	register word x0 __asm__("x0") = a;
	register word x1 __asm__("x1") = b;
	register word x2 __asm__("x2") = c;
	register word x3 __asm__("x3") = d;
	register word x4 __asm__("x4") = e;
	register word x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#endif

enum {
	ARCH_SET_FS = 0x1002, PR_SET_DUMPABLE = 4, F_GETFD = 1, AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100, AF_UNIX = 1, SOCK_STREAM = 1,
	SOCK_NONBLOCK = 04000, SOCK_CLOEXEC = 02000000, MSG_NOSIGNAL = 0x4000, SHUT_WR = 1, POLLIN = 1, EAGAIN = 11,
};

static unsigned char request[] = {REQUEST};
static unsigned char reply[4096];
static struct { unsigned short family; char path[108]; } socket = {AF_UNIX, SOCKET};
static unsigned char folder[1024];
static word thread[2];
static unsigned char found[256]; /* a struct stat, which has 144 bytes at most */

static void end(word status)
{
	for (;;)
		call(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

static word number(const unsigned char *p)
{
	return (word)p[0] << 24 | (word)p[1] << 16 | (word)p[2] << 8 | p[3];
}

/* The entry point. The stack is where the kernel has put it, which is not where a function expects it. */
#if defined(__x86_64__)
__attribute__((force_align_arg_pointer))
#endif
void _start(void)
{
	struct { int fd; short events, revents; } wait = {0, POLLIN, 0};
	struct { long seconds, nanoseconds; } patience = {0, 100 * 1000 * 1000};
	struct { void *base; word size; } line[2] = {{0, 0}, {"\n", 1}};
	word fd, received = 0;

#if defined(__x86_64__)
	call(SYS_arch_prctl, ARCH_SET_FS, (word)&thread[1], 0, 0, 0, 0);
#endif
	call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
	call(SYS_fcntl, 1, F_GETFD, 0, 0, 0, 0);
	call(SYS_getcwd, (word)folder, sizeof folder, 0, 0, 0, 0);
	call(SYS_geteuid, 0, 0, 0, 0, 0, 0);
	if (call(SYS_newfstatat, AT_FDCWD, (word)FOLDER, (word)found, AT_SYMLINK_NOFOLLOW, 0, 0) != 0 ||
	    call(SYS_newfstatat, AT_FDCWD, (word)socket.path, (word)found, AT_SYMLINK_NOFOLLOW, 0, 0) != 0)
		end(2);
	fd = call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, 0, 0, 0);
	if (call(SYS_connect, fd, (word)&socket, sizeof socket, 0, 0, 0) != 0)
		end(3);
	if (call(SYS_sendto, fd, (word)request, sizeof request, MSG_NOSIGNAL, 0, 0) != sizeof request)
		end(4);
	call(SYS_shutdown, fd, SHUT_WR, 0, 0, 0, 0);
	wait.fd = (int)fd;
	while (received < 4 || received < 4 + number(reply)) {
		word n = call(SYS_read, fd, (word)reply + received, sizeof reply - received, 0, 0, 0);
		if (n == (word)-EAGAIN) {
			if (call(SYS_ppoll, (word)&wait, 1, (word)&patience, 0, 0, 0) != 1)
				end(5);
		} else if (n == 0 || n > sizeof reply)
			end(6);
		else
			received += n;
	}
	/* A header of 6 bytes, the profile's name, the token: a name and a token are 4 bytes of length and so many of text. */
	line[0].base = reply + 6 + 4 + number(reply + 6);
	line[0].size = number(line[0].base);
	line[0].base = (char *)line[0].base + 4;
	if (call(SYS_writev, 1, (word)line, 2, 0, 0, 0) != line[0].size + 1)
		end(7);
	end(0);
}

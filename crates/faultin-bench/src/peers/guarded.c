/* A memcpy under sigsetjmp, as C programs do it: no count, and a fixed price for every call that succeeds.
 *
 * With mask 1, sigsetjmp saves the signal mask (a system call) and siglongjmp restores it. With mask 0 the handler
 * must be installed with SA_NODEFER. Either way it leaves by a jump, so the kernel's sigreturn is never called. */

#include <setjmp.h>
#include <signal.h>
#include <string.h>

static _Thread_local sigjmp_buf point;

int faultin_bench_guarded_mask(void *dst, const void *src, size_t n)
{
	if (sigsetjmp(point, 1))
		return -1;
	memcpy(dst, src, n);
	return 0;
}

int faultin_bench_guarded_nomask(void *dst, const void *src, size_t n)
{
	if (sigsetjmp(point, 0))
		return -1;
	memcpy(dst, src, n);
	return 0;
}

void faultin_bench_jump(int signal)
{
	(void)signal;
	siglongjmp(point, 1);
}

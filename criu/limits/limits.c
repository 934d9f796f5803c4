// Preloaded into `criu dump`: reads another process's limits from /proc where the kernel refuses prlimit(2), which wants CAP_SYS_RESOURCE
// for processes of other users. Containers lack it (sinks, native VMs). Reading only: whoever sets a limit gets the kernel's own answer.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

// The order of the lines of /proc/PID/limits is not that of the numbers.
static const char *const names[RLIM_NLIMITS] = {
        [RLIMIT_CPU] = "Max cpu time",
        [RLIMIT_FSIZE] = "Max file size",
        [RLIMIT_DATA] = "Max data size",
        [RLIMIT_STACK] = "Max stack size",
        [RLIMIT_CORE] = "Max core file size",
        [RLIMIT_RSS] = "Max resident set",
        [RLIMIT_NPROC] = "Max processes",
        [RLIMIT_NOFILE] = "Max open files",
        [RLIMIT_MEMLOCK] = "Max locked memory",
        [RLIMIT_AS] = "Max address space",
        [RLIMIT_LOCKS] = "Max file locks",
        [RLIMIT_SIGPENDING] = "Max pending signals",
        [RLIMIT_MSGQUEUE] = "Max msgqueue size",
        [RLIMIT_NICE] = "Max nice priority",
        [RLIMIT_RTPRIO] = "Max realtime priority",
        [RLIMIT_RTTIME] = "Max realtime timeout",
};

static int number(const char *word, rlim64_t *value) {
        unsigned long long read;
        if (strcmp(word, "unlimited") == 0) *value = RLIM64_INFINITY;
        else if (sscanf(word, "%llu", &read) == 1) *value = read;
        else return -1;
        return 0;
}

static int from_proc(pid_t pid, unsigned resource, struct rlimit64 *limit) {
        char path[64], line[256];
        if (resource >= RLIM_NLIMITS || !names[resource]) return -1;
        snprintf(path, sizeof path, "/proc/%d/limits", pid);
        FILE *file = fopen(path, "re");
        if (!file) return -1;
        size_t length = strlen(names[resource]);
        int result = -1;
        while (result < 0 && fgets(line, sizeof line, file)) {
                char soft[32], hard[32];
                if (strncmp(line, names[resource], length) != 0) continue;
                if (sscanf(line + length, "%31s %31s", soft, hard) != 2) break;
                if (number(soft, &limit->rlim_cur) || number(hard, &limit->rlim_max)) break;
                result = 0;
        }
        fclose(file);
        return result;
}

// CRIU makes the call by number, through the C library's syscall(3): that is what is replaced.
long syscall(long number_of_call, ...) {
        static long (*real)(long, ...);
        if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
        long argument[6];
        va_list list;
        va_start(list, number_of_call);
        for (int i = 0; i < 6; i++) argument[i] = va_arg(list, long);
        va_end(list);
        long result = real(number_of_call, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
        bool reads = number_of_call == SYS_prlimit64 && !argument[2] && argument[3];
        if (result == 0 || errno != EPERM || !reads) return result;
        if (from_proc((pid_t)argument[0], (unsigned)argument[1], (struct rlimit64 *)argument[3]) == 0) return 0;
        errno = EPERM;
        return -1;
}

#define _GNU_SOURCE
#include "affinity.h"

#include <unistd.h>

void affinity_choose(cpu_set_t *chosen)
{
	cpu_set_t allowed;

	CPU_ZERO(chosen);
	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return;
	int left = getpid() % CPU_COUNT(&allowed);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || left-- > 0)
			continue;
		CPU_SET(cpu, chosen);
		break;
	}
	if (sched_setaffinity(0, sizeof(*chosen), chosen) < 0)
		CPU_ZERO(chosen);
}

void affinity_share(pid_t tid, const cpu_set_t *chosen)
{
	if (CPU_COUNT(chosen) > 0)
		sched_setaffinity(tid, sizeof(*chosen), chosen);
}

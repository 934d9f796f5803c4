/* Asks the rules about a stopped thread; when it is activity, freezes the cgroup and says why. All return true then. */
#ifndef TRIGGER_H
#define TRIGGER_H

#include "filter.h"

bool trigger_at_entry(struct filter *filter, struct thread *thread, uint32_t audit_arch, uint64_t nr, const uint64_t *args);
bool trigger_at_exit(struct filter *filter, struct thread *thread, long result);
bool trigger_by_signal(struct filter *filter, struct thread *thread, int signal);
bool trigger_by_death(struct filter *filter);
/* A connect check turned out to be more. */
bool trigger_by_check(struct filter *filter, const char *who);
bool trigger_breach(struct filter *filter, struct thread *thread, int event);

#endif

/*
 * What a template's profile allows a program beyond the rules (docs/activity.md): calls that only look, at paths whose answers the
 * sink has from the VM, and reading what was so opened. Which calls those are is fixed here; the profile names programs and paths.
 *
 * The file has one JSON object per line, written by profiles/compile.ts, without escapes:
 *   {"program":"java","effect":"stat","path":"/etc/tomcat10/?*.xml"}
 *   effect stat: stat, access, readlink and the like · open: open for reading alone, read, seek, close · list: open as a folder, getdents,
 *   close · deny: takes `open` of that very path back · call: {"program":"x","effect":"call","call":"sysinfo"}
 * Only the last component may have * and ?, which don't match a leading dot.
 *
 * Checked is the path's text, which another thread may change before the kernel reads it. Then something else is looked at, with the
 * same harmless flags (they are in registers), in the sink's own tree; and to read it is judged anew, by what was really opened.
 */
#ifndef PROFILE_H
#define PROFILE_H

#include "rules.h"

struct profile;

/* Reads the file; NULL with errno set when it can't be read or a line is not as above. */
struct profile *profile_read(const char *file);
bool profile_allows(const struct world *world, const struct call *call, const uint64_t *args);
/*
 * What a profile would have to list so that this call runs: "stat", "open" or "list" with its path, "read" with the path of its descriptor,
 * "call" without one. NULL when no profile can allow it. `path` has room for PATH_MAX bytes.
 */
const char *profile_effect(const struct world *world, const struct call *call, const uint64_t *args, char *path);
/* Prints the names of the calls that each effect covers, as JSON. */
void profile_explain(void);

#endif

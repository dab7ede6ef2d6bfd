/* Parts of a job, shared among the threads that torch keeps: threads of our own would have to share the cores with
   these, which go on spinning for milliseconds after torch has used them.

   torch loads its OpenMP for the whole process to see; where there is none, one thread does all. */
#pragma once

#include <dlfcn.h>
#include <stddef.h>

typedef struct {
    void (*work)(const void *job, size_t part);
    const void *job;
    size_t parts, next;
} team;

static void member(void *given) {
    team *t = given;
    for (size_t part; (part = __atomic_fetch_add(&t->next, 1, __ATOMIC_RELAXED)) < t->parts;) t->work(t->job, part);
}

static inline void together(void (*work)(const void *job, size_t part), const void *job, size_t parts) {
    team t = {work, job, parts, 0};
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned) = NULL;
    if (parts > 1) *(void **)&parallel = dlsym(RTLD_DEFAULT, "GOMP_parallel");
    if (parallel) parallel(member, &t, (unsigned)parts, 0);
    else member(&t);
}

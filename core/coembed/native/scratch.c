/* Memory of each thread, given back when the thread ends. */
#include "product.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int made;

static void make(void) { made = pthread_key_create(&key, free) == 0; }

/* The first 64 bytes of a thread's memory say how large it is. */
char *scratch(size_t bytes) {
    pthread_once(&once, make);
    if (!made) return NULL;
    char *kept = pthread_getspecific(key);
    if (!kept || *(size_t *)kept < bytes) {
        char *more = aligned_alloc(64, up(bytes, 64) + 64);
        if (!more || pthread_setspecific(key, more)) {
            free(more);
            return NULL;
        }
        *(size_t *)more = bytes;
        free(kept);
        kept = more;
    }
    return kept + 64;
}

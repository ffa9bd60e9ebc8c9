/* The type that arrays are kept in: float, or bfloat16 where a file is compiled with -DBFLOAT16. All is computed in float. */
#ifndef JCL_STORED_H
#define JCL_STORED_H

#include "bfloat16.h"

#ifdef BFLOAT16
typedef bfloat stored;
#define NAMED(name) name##_bfloat16
#define load_stored load_bfloat
#define store_stored store_bfloat
#define stream_stored stream_bfloat
#else
typedef float stored;
#define NAMED(name) name
#define load_stored load
#define store_stored store
#define stream_stored stream
#endif

/* Whether an array of so many values is better streamed. */
INLINE int is_large_stored(ptrdiff_t count) { return is_large(count * sizeof(stored) / sizeof(float)); }

#endif

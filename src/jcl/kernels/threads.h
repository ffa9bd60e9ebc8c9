/* The number of a thread, also without OpenMP. */
#ifndef JCL_THREADS_H
#define JCL_THREADS_H

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

#endif

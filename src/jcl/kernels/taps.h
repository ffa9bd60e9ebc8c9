/* Where the weights of a 3 x 3 convolution lie. */
#ifndef JCL_TAPS_H
#define JCL_TAPS_H

#include <stddef.h>

enum { TAPS = 9 };

/* Where weights lie: steps between rows, columns and the 3 x 3 taps.

   Rows are the channels that a convolution sums over: its own inputs, or for the gradient of its input its outputs, with
   `flipped` taps. */
typedef struct {
    float *at;
    ptrdiff_t rows, columns, row_step, column_step, y_step, x_step;
    int flipped;
} Weights;

#endif

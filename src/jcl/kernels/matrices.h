/* Products of matrices of bfloat16 with sums in float32: by the processor's own tiles where it has them (AMX), else by
   vectors.

   The sums are 32 x 32. Of the left matrix 32 rows are read, of each 32 values in a row at a time. Of the right one 16
   lines at a time, each of which holds two of its rows in turn, value by value; its columns come in two halves of 16. */
#ifndef JCL_MATRICES_H
#define JCL_MATRICES_H

#include "bfloat16.h"

enum {
    SIDE = 32,  /* rows and columns of the sums */
    HALF_SIDE = SIDE / 2,
    DEPTH = 32, /* values that a product of tiles sums over */
};

/* Left: where its rows begin, from one to the next. */
typedef struct {
    const bfloat *at;
    ptrdiff_t row;
} Left;

/* Right: values from a line to the next, from the first half of the columns to the second, and from one depth to the
   next. */
typedef struct {
    const bfloat *at;
    ptrdiff_t line, half, step;
} Right;

/* Sums, and floats from a row of them to the next; `add` to what is there. */
typedef struct {
    float *at;
    ptrdiff_t row;
    int add;
} Sums;

#if defined(__AMX_BF16__) && defined(__x86_64__) && !defined(NO_TILES) /* which is given to try the other way */

#include <sys/syscall.h>
#include <unistd.h>

/* Whether the products can be had here: the system has to let a process use the tiles. */
INLINE int may_multiply(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

INLINE int has_tiles(void) { return 1; }

/* Before the products of a thread. */
INLINE void begin_products(void) {
    static const struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all_of_them = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&all_of_them);
}

INLINE void end_products(void) { _tile_release(); }

/* sums = the products of `parts` pieces of the left, each `offsets` values on and `depth` tiles long, with what follows one
   another on the right; of its columns the first half alone, unless `wide`. */
INLINE void multiply(
    Left left, const ptrdiff_t *offsets, ptrdiff_t parts, ptrdiff_t depth, Right right, Sums sums, int wide
) {
    ptrdiff_t row = left.row * sizeof(bfloat), line = right.line * sizeof(bfloat), to = sums.row * sizeof(float);
    float *below = sums.at + HALF_SIDE * sums.row;
    const bfloat *b = right.at;
    __asm__ volatile("" ::: "memory"); /* the compiler does not know what the tiles read */
    if (sums.add) {
        _tile_loadd(0, sums.at, to);
        _tile_loadd(1, below, to);
        if (wide) _tile_loadd(2, sums.at + HALF_SIDE, to);
        if (wide) _tile_loadd(3, below + HALF_SIDE, to);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (ptrdiff_t part = 0; part < parts; part++) {
        const bfloat *a = left.at + offsets[part];
        for (ptrdiff_t d = 0; d < depth; d++, a += DEPTH, b += right.step) {
            _tile_loadd(4, a, row);
            _tile_loadd(6, b, line);
            _tile_loadd(5, a + HALF_SIDE * left.row, row);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 5, 6);
            if (wide) {
                _tile_loadd(7, b + right.half, line);
                _tile_dpbf16ps(2, 4, 7);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    _tile_stored(0, sums.at, to);
    _tile_stored(1, below, to);
    if (wide) _tile_stored(2, sums.at + HALF_SIDE, to);
    if (wide) _tile_stored(3, below + HALF_SIDE, to);
    __asm__ volatile("" ::: "memory");
}

#else

INLINE int may_multiply(void) { return 1; }

INLINE int has_tiles(void) { return 0; }

INLINE void begin_products(void) {}

INLINE void end_products(void) {}

enum { FEW_ROWS = 4, VECTORS = HALF_SIDE / LANES };

/* The two rows of a line of the right matrix, LANES columns of each. */
INLINE void rows_of(const bfloat *line, vec *even, vec *odd) {
    bits pairs = *(const bits *)line;
    *even = (vec)(pairs << 16);
    *odd = (vec)(pairs & 0xffff0000u);
}

INLINE float widened(bfloat value) {
    union {
        uint32_t bits;
        float number;
    } of = {(uint32_t)value << 16};
    return of.number;
}

/* What it is with tiles, above. */
INLINE void multiply(
    Left left, const ptrdiff_t *offsets, ptrdiff_t parts, ptrdiff_t depth, Right right, Sums sums, int wide
) {
    for (int half = 0; half < (wide ? 2 : 1); half++)
        for (ptrdiff_t top = 0; top < SIDE; top += FEW_ROWS) {
            vec sum[FEW_ROWS][VECTORS];
            float *to = sums.at + top * sums.row + half * HALF_SIDE;
            for (int r = 0; r < FEW_ROWS; r++)
                for (int v = 0; v < VECTORS; v++)
                    sum[r][v] = sums.add ? load(to + r * sums.row + v * LANES) : (vec){0};
            const bfloat *b = right.at + half * right.half;
            for (ptrdiff_t part = 0; part < parts; part++) {
                const bfloat *a = left.at + offsets[part] + top * left.row;
                for (ptrdiff_t d = 0; d < depth; d++, a += DEPTH, b += right.step)
                    for (int pair = 0; pair < DEPTH / 2; pair++)
                        for (int v = 0; v < VECTORS; v++) {
                            vec even, odd;
                            rows_of(b + pair * right.line + 2 * v * LANES, &even, &odd);
#pragma GCC unroll 4
                            for (int r = 0; r < FEW_ROWS; r++) {
                                const bfloat *two = a + r * left.row + 2 * pair;
                                sum[r][v] += widened(two[0]) * even + widened(two[1]) * odd;
                            }
                        }
            }
            for (int r = 0; r < FEW_ROWS; r++)
                for (int v = 0; v < VECTORS; v++) store(to + r * sums.row + v * LANES, sum[r][v]);
        }
}

#endif

#endif

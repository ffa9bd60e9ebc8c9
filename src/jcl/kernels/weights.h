/* 3 x 3 weights to frequencies and their gradients back, a panel of columns at a time. */
#ifndef JCL_WEIGHTS_H
#define JCL_WEIGHTS_H

#include <string.h>

#include "product.h"
#include "taps.h"
#include "tiles.h"

/* Rows that are done at a time: a line of the cache. */
enum { STRIP = 16 };

INLINE ptrdiff_t panels_of(ptrdiff_t columns) { return (columns + PANEL - 1) / PANEL; }

/* Floats from one frequency of a panel [frequency][row][PANEL] to the next: no multiple of a page, or all of them would
   fall into the same few lines of the cache. */
INLINE ptrdiff_t panel_step(ptrdiff_t rows) { return rows * PANEL + LINE; }

INLINE ptrdiff_t tap_of(const Weights *of, int tap) {
    int i = of->flipped ? TAPS - 1 - tap : tap;
    return i / 3 * of->y_step + i % 3 * of->x_step;
}

/* Fetch what the next strip needs of a column, or, where it is columns that lie beside each other, of all of them. */
INLINE void fetch_next(const Weights *of, const float *column, ptrdiff_t k) {
    if (of->row_step == 1)
        __builtin_prefetch(column + STRIP);
    else if (k == 0)
        for (int r = 0; r < STRIP; r++) __builtin_prefetch(column + (STRIP + r) * of->row_step);
}

/* Frequencies of a panel. */
INLINE void panel_to_frequencies(const Weights *of, ptrdiff_t panel, float *out) {
    ptrdiff_t width = least(PANEL, of->columns - panel * PANEL), step = panel_step(of->rows);
    for (ptrdiff_t first = 0; first < of->rows; first += STRIP) {
        ptrdiff_t count = least(STRIP, of->rows - first);
        const float *corner = of->at + first * of->row_step + panel * PANEL * of->column_step;
        float taps[STRIP][TAPS][PANEL];
        if (width < PANEL) memset(taps, 0, sizeof taps);
        for (int tap = 0; tap < TAPS; tap++)
            for (ptrdiff_t k = 0; k < width; k++) {
                const float *from = corner + k * of->column_step + tap_of(of, tap);
                for (ptrdiff_t r = 0; r < count; r++) taps[r][tap][k] = from[r * of->row_step];
                fetch_next(of, from, k);
            }
        for (ptrdiff_t r = 0; r < count; r++)
            for (int c = 0; c < PANEL; c += LANES) {
                vec half[PATCH * 3], line[PATCH];
                for (int j = 0; j < 3; j++) {
                    from_weights(line, load(taps[r][j] + c), load(taps[r][3 + j] + c), load(taps[r][6 + j] + c));
                    for (int i = 0; i < PATCH; i++) half[3 * i + j] = line[i];
                }
                for (int i = 0; i < PATCH; i++) {
                    from_weights(line, half[3 * i], half[3 * i + 1], half[3 * i + 2]);
                    float *to = out + PATCH * i * step + (first + r) * PANEL + c;
                    for (int j = 0; j < PATCH; j++) store(to + j * step, line[j]);
                }
            }
    }
}

/* The weights of a panel from `sums` over its frequencies, each `step` floats behind the one before: the gradient. */
INLINE void frequencies_to_panel(const Weights *of, ptrdiff_t panel, const float *sums, ptrdiff_t step) {
    ptrdiff_t width = least(PANEL, of->columns - panel * PANEL);
    for (ptrdiff_t first = 0; first < of->rows; first += STRIP) {
        ptrdiff_t count = least(STRIP, of->rows - first);
        float taps[STRIP][TAPS][PANEL];
        for (ptrdiff_t r = 0; r < count; r++)
            for (int c = 0; c < PANEL; c += LANES) {
                vec half[3 * PATCH], line[3];
                const float *from = sums + (first + r) * PANEL + c;
                for (int j = 0; j < PATCH; j++) {
#define AT(i) load(from + (PATCH * (i) + j) * step)
                    to_weights(line, AT(0), AT(1), AT(2), AT(3), AT(4), AT(5));
#undef AT
                    for (int i = 0; i < 3; i++) half[PATCH * i + j] = line[i];
                }
                for (int i = 0; i < 3; i++) {
                    const vec *h = half + PATCH * i;
                    to_weights(line, h[0], h[1], h[2], h[3], h[4], h[5]);
                    for (int j = 0; j < 3; j++) store(taps[r][3 * i + j] + c, line[j]);
                }
            }
        float *corner = of->at + first * of->row_step + panel * PANEL * of->column_step;
        for (ptrdiff_t k = 0; k < width; k++)
            for (int tap = 0; tap < TAPS; tap++) {
                float *to = corner + k * of->column_step + tap_of(of, tap);
                for (ptrdiff_t r = 0; r < count; r++) to[r * of->row_step] = taps[r][tap][k];
            }
    }
}

#endif

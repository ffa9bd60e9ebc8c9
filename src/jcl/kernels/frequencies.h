/* Images to frequencies of their tiles, a run of tiles beside each other at a time. */
#ifndef JCL_FREQUENCIES_H
#define JCL_FREQUENCIES_H

#include "product.h"
#include "tiles.h"

/* Where frequencies lie: each `step` floats behind the one before, and in each the LANES of channels `group` apart, and
   tiles `tile` apart.

   The step is no multiple of a page, or all frequencies would fall into the same few lines of the cache. */
typedef struct {
    ptrdiff_t step, group, tile;
} Layout;

enum {
    RUN = 8,       /* tiles of a run, */
    STRETCH = 32,  /* and channels of it that are transformed at a time: both stay in the innermost cache */
    COLUMNS = RUN * TILE + 2,
};

/* Channels beside each other, tile behind tile. */
INLINE Layout by_tile(ptrdiff_t channels, ptrdiff_t tiles) { return (Layout){tiles * channels + LINE, LANES, channels}; }

/* Tiles beside each other, group of channels behind group; an even number of groups, since products take two. */
INLINE Layout by_group(ptrdiff_t channels, ptrdiff_t tiles) {
    return (Layout){(channels + PANEL - 1) / PANEL * PANEL * tiles + LINE, tiles * LANES, LANES};
}

/* One dimension of a transform: of the six pixels of a patch, or of the gradients of four outputs. */
INLINE void transform(vec *out, const vec *in, int side) {
    if (side == PATCH)
        to_frequencies(out, in[0], in[1], in[2], in[3], in[4], in[5]);
    else
        from_outputs(out, in[0], in[1], in[2], in[3]);
}

INLINE vec value_of(const float *at, const Affine *before, ptrdiff_t c) {
    return before ? normalised(before, c, load(at)) : load(at);
}

/* Frequencies of `count` tiles from `first` on: of their patches (side PATCH), normalised `before` that if it is given,
   or of the gradient of their outputs (side TILE). What lies off the image is zero.

   Columns of pixels first, for a whole run, then its tiles: pixels that two tiles share are transformed once. */
INLINE void tiles_to_frequencies(
    const float *images, ptrdiff_t channels, Grid grid, ptrdiff_t first, ptrdiff_t count, int side,
    const Affine *before, float *out, Layout layout
) {
    int offset = side == PATCH ? -1 : 0;
    while (count > 0) {
        ptrdiff_t row = first / grid.columns, column = first % grid.columns;
        ptrdiff_t run = least(least(RUN, count), grid.columns - column), width = run * TILE + side - TILE;
        ptrdiff_t top = row % grid.rows * TILE + offset, left = column * TILE + offset;
        const float *line[PATCH];
        for (int i = 0; i < side; i++) {
            ptrdiff_t y = top + i;
            line[i] = y < 0 || y >= grid.h ? NULL : images + ((row / grid.rows * grid.h + y) * grid.w + left) * channels;
        }
        for (ptrdiff_t start = 0; start < channels; start += STRETCH) {
            ptrdiff_t vectors = least(STRETCH, channels - start) / LANES;
            vec half[PATCH][COLUMNS][STRETCH / LANES], in[PATCH], made[PATCH];
            for (ptrdiff_t x = 0; x < width; x++) {
                int inside = left + x >= 0 && left + x < grid.w;
                for (ptrdiff_t v = 0; v < vectors; v++) {
                    ptrdiff_t c = start + v * LANES;
                    for (int i = 0; i < side; i++)
                        in[i] = inside && line[i] ? value_of(line[i] + x * channels + c, before, c) : (vec){0};
                    transform(made, in, side);
                    for (int i = 0; i < PATCH; i++) half[i][x][v] = made[i];
                }
            }
            for (ptrdiff_t t = 0; t < run; t++)
                for (int i = 0; i < PATCH; i++)
                    for (ptrdiff_t v = 0; v < vectors; v++) {
                        for (int j = 0; j < side; j++) in[j] = half[i][t * TILE + j][v];
                        transform(made, in, side);
                        float *to = out + t * layout.tile + (start / LANES + v) * layout.group + PATCH * i * layout.step;
                        for (int j = 0; j < PATCH; j++) store(to + j * layout.step, made[j]);
                    }
        }
        first += run, count -= run, out += run * layout.tile;
    }
}

#endif

/* Frequencies of tiles to outputs, and what becomes of these before they are written. */
#ifndef JCL_OUTPUTS_H
#define JCL_OUTPUTS_H

#include "epilogue.h"
#include "product.h"
#include "tiles.h"

/* Sums of one block and panel: of two quantities, for each of the panel's channels. */
typedef struct {
    vec pivot[PANEL / LANES], first[PANEL / LANES], second[PANEL / LANES];
    ptrdiff_t count;
} Totals;

/* Where the outputs of a panel go: channels `column` to column + width of an image. */
typedef struct {
    float *images;
    ptrdiff_t channels, column, width;
    int streamed;
    const Epilogue *epilogue;
} Panel;

/* The outputs of a tile, as far as they are on the image, from (top, left) at `corner`. */
INLINE void write_tile(
    const Panel *to, int kind, ptrdiff_t corner, ptrdiff_t h, ptrdiff_t w, ptrdiff_t line,
    vec made[TILE][TILE][PANEL / LANES], Totals *totals
) {
    const Epilogue *epilogue = to->epilogue;
    for (ptrdiff_t p = 0; p * LANES < to->width; p++) {
        ptrdiff_t c = to->column + p * LANES;
        vec pivot = totals->pivot[p], first = totals->first[p], second = totals->second[p];
        vec bias = kind == PLAIN && epilogue->bias ? load(epilogue->bias + c) : (vec){0};
        for (ptrdiff_t i = 0; i < h; i++)
            for (ptrdiff_t j = 0; j < w; j++) {
                ptrdiff_t place = corner + i * line + j * to->channels + c;
                vec value = made[i][j][p];
                if (kind == MOMENTS) {
                    vec distance = value - pivot;
                    first += distance, second += distance * distance;
                } else if (kind == SUMS) {
                    vec distance = load((const float *)epilogue->x + place) - load(epilogue->of->mean + c);
                    vec activated = distance * load(epilogue->of->scale + c) + load(epilogue->of->shift + c);
                    value = choose(activated, value, epilogue->of->slope * value);
                    first += value, second += value * distance;
                } else {
                    value += bias;
                    value = choose(value, value, epilogue->slope * value);
                }
                made[i][j][p] = value;
            }
        totals->first[p] = first, totals->second[p] = second;
    }
    for (ptrdiff_t i = 0; i < h; i++)
        for (ptrdiff_t j = 0; j < w; j++)
            for (ptrdiff_t p = 0; p * LANES < to->width; p++) {
                float *at = to->images + corner + i * line + j * to->channels + to->column + p * LANES;
                if (to->streamed)
                    stream(at, made[i][j][p]); /* whole lines, one after the other */
                else
                    store(at, made[i][j][p]);
            }
}

/* The outputs of a tile from its frequencies, each `step` floats behind the one before. */
static void frequencies_to_outputs(
    const float *frequencies, ptrdiff_t step, const Panel *to, Grid grid, ptrdiff_t tile, Totals *totals
) {
    ptrdiff_t row = tile / grid.columns, top = row % grid.rows * TILE, left = tile % grid.columns * TILE;
    ptrdiff_t corner = ((row / grid.rows * grid.h + top) * grid.w + left) * to->channels;
    ptrdiff_t h = least(TILE, grid.h - top), w = least(TILE, grid.w - left), line = grid.w * to->channels;
    vec made[TILE][TILE][PANEL / LANES];
    for (int p = 0; p < PANEL / LANES; p++) {
        vec half[TILE][PATCH], out[TILE];
        for (int j = 0; j < PATCH; j++) {
            const float *from = frequencies + j * step + p * LANES;
#define AT(i) load(from + PATCH * (i) * step)
            to_outputs(out, AT(0), AT(1), AT(2), AT(3), AT(4), AT(5));
#undef AT
            for (int i = 0; i < TILE; i++) half[i][j] = out[i];
        }
        for (int i = 0; i < TILE; i++) {
            const vec *f = half[i];
            to_outputs(out, f[0], f[1], f[2], f[3], f[4], f[5]);
            for (int j = 0; j < TILE; j++) made[i][j][p] = out[j];
        }
        /* distances are from an output of the block: squares of values themselves would lose digits far from zero */
        if (!totals->count) totals->pivot[p] = made[0][0][p];
    }
    totals->count += h * w;
    int kind = kind_of(to->epilogue);
    if (kind == MOMENTS)
        write_tile(to, MOMENTS, corner, h, w, line, made, totals);
    else if (kind == SUMS)
        write_tile(to, SUMS, corner, h, w, line, made, totals);
    else
        write_tile(to, PLAIN, corner, h, w, line, made, totals);
}

/* The totals of a block to where the caller wants them. */
static void keep_totals(const Panel *of, const Totals *totals, ptrdiff_t block) {
    int kind = kind_of(of->epilogue);
    if (kind == PLAIN) return;
    float *to = (kind == MOMENTS ? of->epilogue->moments : of->epilogue->sums) + 2 * block * of->channels + of->column;
    if (kind == MOMENTS) of->epilogue->counts[block] = totals->count;
    for (ptrdiff_t p = 0; p * LANES < of->width; p++) {
        vec first = totals->first[p], second = totals->second[p];
        if (kind == MOMENTS) to_moments(totals->pivot[p], totals->count, &first, &second);
        store(to + p * LANES, first);
        store(to + of->channels + p * LANES, second);
    }
}

#endif

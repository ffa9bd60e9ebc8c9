/* Convolutions of 3 x 3, stride 1, padding 1, in bfloat16 with sums in float32; channels last, channels a multiple of 16.

   The sum over taps and channels is one product of matrices, of a band of pixels that stays in the cache. What stands
   before a convolution or behind it is done on the way. What is computed does not depend on the number of threads. */

#include <string.h>

#include "bands.h"
#include "epilogue.h"
#include "threads.h"
#include "turn.h"

enum { COLUMNS = SIDE / LANES }; /* vectors of the outputs that are made at a time */

/* 0: the products cannot be had here; 1: by vectors; 2: by the processor's tiles. */
ptrdiff_t jcl_direct_products(void) { return may_multiply() ? 1 + has_tiles() : 0; }

INLINE ptrdiff_t sides_of(ptrdiff_t columns) { return (columns + SIDE - 1) / SIDE; }

/* Values of the weights of SIDE outputs, made ready. */
INLINE ptrdiff_t ready_of(ptrdiff_t rows) { return TAPS * padded(rows) * SIDE; }

/* DEPTH inputs of one tap for 16 outputs, 16 lines of two inputs in turn, of weights whose inputs follow each other. */
static void half_of_weights(const float *from, ptrdiff_t column_step, ptrdiff_t width, ptrdiff_t count, bfloat *out) {
    uint32_t pairs[GROUP][GROUP];
    if (width < GROUP || count < DEPTH) memset(pairs, 0, sizeof pairs);
    for (ptrdiff_t c = 0; c < width; c++)
        for (ptrdiff_t r = 0; r < count; r += LANES)
            store_bfloat((bfloat *)pairs[c] + r, load(from + c * column_step + r));
    turn((const uint32_t(*)[GROUP])pairs, out, DEPTH);
}

/* The same of weights that lie otherwise. */
static void half_from_anywhere(
    const float *from, ptrdiff_t row_step, ptrdiff_t column_step, ptrdiff_t width, ptrdiff_t count, bfloat *out
) {
    float found[DEPTH][HALF_SIDE];
    if (width < HALF_SIDE || count < DEPTH) memset(found, 0, sizeof found);
    for (ptrdiff_t r = 0; r < count; r++)
        for (ptrdiff_t c = 0; c < width; c++) found[r][c] = from[r * row_step + c * column_step];
    for (int r = 0; r < DEPTH; r += 2)
        for (int c = 0; c < HALF_SIDE; c += LANES, out += 2 * LANES) {
            bits even = rounded(load(found[r] + c)), odd = rounded(load(found[r + 1] + c));
            *(bits *)out = even >> 16 | (odd & 0xffff0000u);
        }
}

/* DEPTH inputs of one tap for SIDE outputs, as a product reads them. */
static void tile_of_weights(const Weights *of, ptrdiff_t side, int tap, ptrdiff_t first, bfloat *out) {
    int place = of->flipped ? TAPS - 1 - tap : tap;
    const float *from = of->at + first * of->row_step + place / 3 * of->y_step + place % 3 * of->x_step;
    ptrdiff_t count = least(DEPTH, of->rows - first);
    for (ptrdiff_t c = side * SIDE; c < least(of->columns, (side + 1) * SIDE); c += HALF_SIDE, out += DEPTH * HALF_SIDE) {
        ptrdiff_t width = least(HALF_SIDE, of->columns - c);
        if (of->row_step == 1)
            half_of_weights(from + c * of->column_step, of->column_step, width, count, out);
        else if (of->column_step == 1)
            half_from_anywhere(from + c, of->row_step, 1, width, count, out);
        else
            half_from_anywhere(from + c * of->column_step, of->row_step, of->column_step, width, count, out);
    }
}

/* A line of an image, normalised `before`, or as it is (NULL). */
INLINE void fill_line(
    const bfloat *x, ptrdiff_t channels, ptrdiff_t pixels, const Affine *before, bfloat *out, ptrdiff_t step
) {
    if (!before && channels == step) {
        memcpy(out, x, pixels * channels * sizeof *out);
        return;
    }
    for (ptrdiff_t p = 0; p < pixels; p++, x += channels, out += step) {
        for (ptrdiff_t c = 0; c < channels; c += LANES) {
            vec value = load_bfloat(x + c);
            store_bfloat(out + c, before ? normalised(before, c, value) : value);
        }
        for (ptrdiff_t c = channels; c < step; c += LANES) store_bfloat(out + c, (vec){0});
    }
}

/* A band of x: pixels of `padded(channels)` values. */
static void fill_band(
    const bfloat *x, ptrdiff_t channels, const Affine *before, const Bands *of, const Part *part, bfloat *out
) {
    ptrdiff_t step = padded(channels);
    for (ptrdiff_t l = 0; l < part->images * part->lines; l++, out += of->line * step) {
        ptrdiff_t image = part->image + l / part->lines, y = part->top + l % part->lines - 1;
        if (y < 0 || y >= of->h) {
            memset(out, 0, of->line * step * sizeof *out);
            continue;
        }
        const bfloat *from = x + (image * of->h + y) * of->w * channels;
        memset(out, 0, step * sizeof *out);
        if (before)
            fill_line(from, channels, of->w, before, out + step, step);
        else
            fill_line(from, channels, of->w, NULL, out + step, step);
        memset(out + (of->w + 1) * step, 0, step * sizeof *out);
    }
}

/* A convolution: what, from where, to where. */
typedef struct {
    const bfloat *x;
    const Affine *before;
    const Weights *weights;
    const Epilogue *epilogue;
    bfloat *y;
    Bands bands;
    int streamed;
} Convolution;

/* Sums of one band, for SIDE of its channels. */
typedef struct {
    vec pivot[COLUMNS], first[COLUMNS], second[COLUMNS];
    ptrdiff_t count;
} Totals;

/* `count` pixels of a line, from `sums` to `place` of y; `vectors` of LANES channels from c on. */
INLINE void write_pixels(
    const Convolution *of, int kind, int vectors, const float *sums, ptrdiff_t place, ptrdiff_t count, ptrdiff_t c,
    Totals *totals
) {
    const Epilogue *epilogue = of->epilogue;
    ptrdiff_t channels = of->weights->columns;
    vec first[COLUMNS], second[COLUMNS]; /* of this run: thousands in one sum would lose digits */
    for (int v = 0; v < vectors; v++) {
        if (!totals->count) totals->pivot[v] = as_stored(load(sums + v * LANES));
        first[v] = second[v] = (vec){0};
    }
    totals->count += count;
    for (ptrdiff_t p = 0; p < count; p++, sums += SIDE) {
        ptrdiff_t to = (place + p) * channels + c;
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            vec value = load(sums + v * LANES);
            if (kind == MOMENTS) {
                vec distance = as_stored(value) - totals->pivot[v];
                first[v] += distance, second[v] += distance * distance;
            } else if (kind == SUMS) {
                vec distance = load_bfloat((const bfloat *)epilogue->x + to + v * LANES);
                distance -= load(epilogue->of->mean + c + v * LANES);
                vec activated = distance * load(epilogue->of->scale + c + v * LANES);
                activated += load(epilogue->of->shift + c + v * LANES);
                value = choose(activated, value, epilogue->of->slope * value);
                first[v] += value, second[v] += value * distance;
            } else {
                if (epilogue->bias) value += load(epilogue->bias + c + v * LANES);
                value = choose(value, value, epilogue->slope * value);
            }
            if (of->streamed)
                stream_bfloat(of->y + to + v * LANES, value);
            else
                store_bfloat(of->y + to + v * LANES, value);
        }
    }
    for (int v = 0; v < vectors; v++) totals->first[v] += first[v], totals->second[v] += second[v];
}

/* With constants in the place of what does not change. */
static void write_run(
    const Convolution *of, int vectors, const float *sums, ptrdiff_t place, ptrdiff_t count, ptrdiff_t c, Totals *totals
) {
    int kind = kind_of(of->epilogue);
#define WRITE(KIND)                                                                \
    if (vectors == COLUMNS)                                                        \
        write_pixels(of, KIND, COLUMNS, sums, place, count, c, totals);            \
    else                                                                           \
        write_pixels(of, KIND, vectors, sums, place, count, c, totals);
    if (kind == MOMENTS) {
        WRITE(MOMENTS)
    } else if (kind == SUMS) {
        WRITE(SUMS)
    } else {
        WRITE(PLAIN)
    }
#undef WRITE
}

/* Of SIDE outputs in a row of a band, from the `first` on, those that are pixels. */
INLINE void write_outputs(
    const Convolution *of, const Part *part, int vectors, const float *sums, ptrdiff_t first, ptrdiff_t c,
    Totals *totals
) {
    const Bands *bands = &of->bands;
    for (ptrdiff_t done = 0; done < SIDE && first + done < part->outputs;) {
        ptrdiff_t line = (first + done) / bands->line, x = (first + done) % bands->line, row = line % part->lines;
        ptrdiff_t count = least(SIDE - done, bands->w - x), image = part->image + line / part->lines;
        if (row < part->rows && count > 0)
            write_run(
                of, vectors, sums + done * SIDE, (image * bands->h + part->top + row) * bands->w + x, count, c, totals
            );
        done += bands->line - x;
    }
}

/* The totals of a band to where the caller wants them. */
static void keep_totals(const Convolution *of, int vectors, const Totals *totals, ptrdiff_t c, ptrdiff_t band) {
    const Epilogue *epilogue = of->epilogue;
    int kind = kind_of(epilogue);
    if (kind == PLAIN) return;
    ptrdiff_t channels = of->weights->columns;
    float *to = (kind == MOMENTS ? epilogue->moments : epilogue->sums) + 2 * band * channels + c;
    if (kind == MOMENTS) epilogue->counts[band] = totals->count;
    for (int v = 0; v < vectors; v++) {
        vec first = totals->first[v], second = totals->second[v];
        if (kind == MOMENTS) to_moments(totals->pivot[v], totals->count, &first, &second);
        store(to + v * LANES, first);
        store(to + channels + v * LANES, second);
    }
}

/* All outputs of a band, SIDE channels after the other. */
static void convolve_band(const Convolution *of, ptrdiff_t band, const bfloat *ready, bfloat *filled, float *sums) {
    ptrdiff_t in = of->weights->rows, out = of->weights->columns, step = padded(in), offsets[TAPS];
    Part part = part_of(&of->bands, band);
    taps_of(&of->bands, step, offsets);
    fill_band(of->x, in, of->before, &of->bands, &part, filled);
    for (ptrdiff_t side = 0; side < sides_of(out); side++) {
        int vectors = least(SIDE, out - side * SIDE) / LANES, wide = vectors > COLUMNS / 2;
        Right right = {ready + side * ready_of(in), SIDE, SIDE * DEPTH / 2, SIDE * DEPTH};
        Totals totals = {.count = 0};
        for (ptrdiff_t first = 0; first < part.outputs; first += SIDE) {
            Left left = {filled + first * step, step};
            multiply(left, offsets, TAPS, step / DEPTH, right, (Sums){sums, SIDE, 0}, wide);
            write_outputs(of, &part, vectors, sums, first, side * SIDE, &totals);
        }
        keep_totals(of, vectors, &totals, side * SIDE, band);
    }
}

/* Bands, which have sums of their own. */
ptrdiff_t jcl_direct_bands(ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t in) { return bands_of(n, h, w, in).count; }

/* Values of bfloat16 that a thread needs: a band, and the sums. */
INLINE ptrdiff_t scratch_of(const Bands *of, ptrdiff_t in) {
    return padded(room_of(of) * padded(in)) + SIDE * SIDE * (sizeof(float) / sizeof(bfloat));
}

/* Bytes of `work` that `jcl_direct_convolve` needs. */
ptrdiff_t jcl_direct_work(ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t in, ptrdiff_t out, int threads) {
    Bands bands = bands_of(n, h, w, in);
    return (sides_of(out) * ready_of(in) + threads * scratch_of(&bands, in)) * sizeof(bfloat);
}

/* y (n, h, w, out) = x (n, h, w, in) * weights.

   before: a normalisation of x, or NULL. work: aligned to 64 bytes. */
void jcl_direct_convolve(
    const bfloat *x, const Affine *before, const Weights *weights, bfloat *y, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w,
    const Epilogue *epilogue, bfloat *work, int threads
) {
    ptrdiff_t in = weights->rows, out = weights->columns, depth = padded(in) / DEPTH;
    Convolution of = {x, before, weights, epilogue, y, bands_of(n, h, w, in), is_large(n * h * w * out / 2)};
    bfloat *ready = work, *rest = work + sides_of(out) * ready_of(in);
#pragma omp parallel num_threads(threads)
    {
        bfloat *filled = rest + omp_get_thread_num() * scratch_of(&of.bands, in);
        float *sums = (float *)(filled + padded(room_of(&of.bands) * padded(in)));
#pragma omp for schedule(static) collapse(3)
        for (ptrdiff_t side = 0; side < sides_of(out); side++)
            for (int tap = 0; tap < TAPS; tap++)
                for (ptrdiff_t d = 0; d < depth; d++)
                    tile_of_weights(
                        weights, side, tap, d * DEPTH, ready + ((side * TAPS + tap) * depth + d) * SIDE * DEPTH
                    );
        begin_products();
#pragma omp for schedule(dynamic)
        for (ptrdiff_t band = 0; band < of.bands.count; band++) convolve_band(&of, band, ready, filled, sums);
        end_products();
        finish_streams();
    }
}

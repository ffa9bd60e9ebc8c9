/* Convolutions of 3 x 3, stride 1, padding 1, by Winograd's tiles; float32, channels last, channels a multiple of LANES.

   Everything is computed in blocks that fit the cache: patches of the image become frequencies, at each frequency a
   product of small matrices sums over channels (or over tiles, for the weights' gradient), and the result goes back.
   What is computed does not depend on the number of threads. */

#include <string.h>

#include "product.h"
#include "tiles.h"

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

/* Where frequencies lie: each `step` floats behind the one before, and in each the LANES of channels `group` apart.

   The step is no multiple of a page, or all frequencies would fall into the same few lines of the cache. */
typedef struct {
    ptrdiff_t step, group;
} Layout;

enum { LINE = 16 };

/* Channels beside each other, tile behind tile. */
INLINE Layout by_tile(ptrdiff_t channels, ptrdiff_t tiles) { return (Layout){tiles * channels + LINE, LANES}; }

/* Tiles beside each other, group of channels behind group; an even number of groups, since products take two. */
INLINE Layout by_group(ptrdiff_t channels, ptrdiff_t tiles) {
    return (Layout){(channels + PANEL - 1) / PANEL * PANEL * tiles + LINE, tiles * LANES};
}

/* Frequencies of the patch of a tile. */
static void patch_to_frequencies(
    const float *images, ptrdiff_t channels, Grid grid, ptrdiff_t tile, const float *zeros, float *out, Layout layout
) {
    const float *pixel[FREQUENCIES];
    pixels_of(pixel, images, channels, grid, tile, PATCH, -1, zeros);
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        vec half[FREQUENCIES], line[PATCH];
        for (int j = 0; j < PATCH; j++) {
            const float **p = pixel + j;
            to_frequencies(
                line, load(p[0] + c), load(p[6] + c), load(p[12] + c), load(p[18] + c), load(p[24] + c), load(p[30] + c)
            );
            for (int i = 0; i < PATCH; i++) half[PATCH * i + j] = line[i];
        }
        for (int i = 0; i < PATCH; i++) {
            const vec *h = half + PATCH * i;
            to_frequencies(line, h[0], h[1], h[2], h[3], h[4], h[5]);
            for (int j = 0; j < PATCH; j++) store(out + (PATCH * i + j) * layout.step + c / LANES * layout.group, line[j]);
        }
    }
}

/* Gradient of the frequencies of a tile, from that of its outputs. */
static void outputs_to_frequencies(
    const float *gradient, ptrdiff_t channels, Grid grid, ptrdiff_t tile, const float *zeros, float *out, Layout layout
) {
    const float *pixel[TILE * TILE];
    pixels_of(pixel, gradient, channels, grid, tile, TILE, 0, zeros);
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        vec half[PATCH * TILE], line[PATCH];
        for (int j = 0; j < TILE; j++) {
            const float **p = pixel + j;
            from_outputs(line, load(p[0] + c), load(p[4] + c), load(p[8] + c), load(p[12] + c));
            for (int i = 0; i < PATCH; i++) half[TILE * i + j] = line[i];
        }
        for (int i = 0; i < PATCH; i++) {
            const vec *h = half + TILE * i;
            from_outputs(line, h[0], h[1], h[2], h[3]);
            for (int j = 0; j < PATCH; j++) store(out + (PATCH * i + j) * layout.step + c / LANES * layout.group, line[j]);
        }
    }
}

/* What becomes of each output: a bias is added (or none, NULL), and values below zero are multiplied by the slope. */
typedef struct {
    const float *bias;
    float slope;
} Ending;

/* The outputs of a tile, `width` channels of them, from its frequencies. */
static void frequencies_to_outputs(
    const float *frequencies, ptrdiff_t step, float *images, ptrdiff_t channels, ptrdiff_t width, Grid grid,
    ptrdiff_t tile, Ending ending
) {
    const float *pixel[TILE * TILE];
    float nowhere[PANEL];
    pixels_of(pixel, images, channels, grid, tile, TILE, 0, NULL);
    for (ptrdiff_t c = 0; c < width; c += LANES) {
        vec half[TILE * PATCH], line[TILE], bias = ending.bias ? load(ending.bias + c) : (vec){0};
        for (int j = 0; j < PATCH; j++) {
            const float *f = frequencies + j * step + c;
            ptrdiff_t row = PATCH * step;
            to_outputs(
                line, load(f), load(f + row), load(f + 2 * row), load(f + 3 * row), load(f + 4 * row), load(f + 5 * row)
            );
            for (int i = 0; i < TILE; i++) half[PATCH * i + j] = line[i];
        }
        for (int i = 0; i < TILE; i++) {
            const vec *h = half + PATCH * i;
            to_outputs(line, h[0], h[1], h[2], h[3], h[4], h[5]);
            for (int j = 0; j < TILE; j++) {
                const float *to = pixel[TILE * i + j];
                vec value = line[j] + bias;
                store(to ? (float *)to + c : nowhere, choose(value, value, ending.slope * value));
            }
        }
    }
}

ptrdiff_t jcl_lanes(void) { return LANES; }

/* Floats of `work` that `jcl_convolve` needs. */
ptrdiff_t jcl_convolve_work(ptrdiff_t in, ptrdiff_t tiles, int threads) {
    return threads * FREQUENCIES * (by_tile(in, tiles).step + by_tile(PANEL, tiles).step);
}

/* y (n, h, w, out) = x (n, h, w, in) * weights, which `jcl_weights_to_frequencies` has made ready, with its ending.

   tiles: that a thread takes at a time, a multiple of ROWS. zeros: at least `in` of them. */
void jcl_convolve(
    const float *x, const float *weights, float *y, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t in, ptrdiff_t out,
    const float *bias, float slope, float *work, const float *zeros, ptrdiff_t tiles, int threads
) {
    Grid grid = grid_of(n, h, w);
    Layout by_in = by_tile(in, tiles), by_panel = by_tile(PANEL, tiles);
    ptrdiff_t panels = (out + PANEL - 1) / PANEL, blocks = (grid.count + tiles - 1) / tiles;
#pragma omp parallel num_threads(threads)
    {
        float *patches = work + omp_get_thread_num() * jcl_convolve_work(in, tiles, 1);
        float *sums = patches + FREQUENCIES * by_in.step;
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < blocks; block++) {
            ptrdiff_t first = block * tiles, count = least(tiles, grid.count - first);
            for (ptrdiff_t t = 0; t < count; t++)
                patch_to_frequencies(x, in, grid, first + t, zeros, patches + t * in, by_in);
            for (ptrdiff_t panel = 0; panel < panels; panel++) {
                for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
                    /* the last rows may be of no tile: what they hold goes nowhere */
                    for (ptrdiff_t t = 0; t < count; t += ROWS)
                        product_of(
                            ROWS, in, patches + f * by_in.step + t * in, in, 1,
                            weights + (f * panels + panel) * in * PANEL, PANEL, LANES,
                            sums + f * by_panel.step + t * PANEL, 0
                        );
                ptrdiff_t column = panel * PANEL, width = least(PANEL, out - column);
                Ending ending = {bias ? bias + column : NULL, slope};
                for (ptrdiff_t t = 0; t < count; t++)
                    frequencies_to_outputs(
                        sums + t * PANEL, by_panel.step, y + column, out, width, grid, first + t, ending
                    );
            }
        }
    }
}

/* What both ways to the gradient of weights work on. */
typedef struct {
    const float *x, *gradient, *zeros;
    ptrdiff_t in, out, panels;
    Grid grid;
    Layout by_in, by_out;
} Correlation;

/* Frequencies of tile first + t, of x and of the gradient. */
static void both_to_frequencies(const Correlation *of, ptrdiff_t first, ptrdiff_t t, float *patches, float *gradients) {
    patch_to_frequencies(of->x, of->in, of->grid, first + t, of->zeros, patches + t * LANES, of->by_in);
    outputs_to_frequencies(of->gradient, of->out, of->grid, first + t, of->zeros, gradients + t * LANES, of->by_out);
}

/* sums of one frequency and panel, over `count` tiles. */
static void sum_over_tiles(
    const Correlation *of, ptrdiff_t f, ptrdiff_t panel, ptrdiff_t count, const float *patches, const float *gradients,
    float *sums, int add
) {
    const float *a = patches + f * of->by_in.step, *b = gradients + f * of->by_out.step + 2 * panel * of->by_out.group;
    float *to = sums + (f * of->panels + panel) * of->in * PANEL;
    for (ptrdiff_t c = 0; c < of->in; c += HALF)
        product_of(
            HALF, count, a + c / LANES * of->by_in.group + c % LANES, 1, LANES, b, LANES, of->by_out.group,
            to + c * PANEL, add
        );
}

/* Many channels: the threads share the tiles of a block, then its frequencies. */
static void gradient_by_blocks(const Correlation *of, float *sums, float *work, ptrdiff_t tiles, int threads) {
    float *patches = work, *gradients = work + FREQUENCIES * of->by_in.step;
#pragma omp parallel num_threads(threads)
    for (ptrdiff_t first = 0; first < of->grid.count; first += tiles) {
        ptrdiff_t count = least(tiles, of->grid.count - first);
#pragma omp for schedule(static)
        for (ptrdiff_t t = 0; t < count; t++) both_to_frequencies(of, first, t, patches, gradients);
#pragma omp for schedule(dynamic) collapse(2)
        for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
            for (ptrdiff_t panel = 0; panel < of->panels; panel++)
                sum_over_tiles(of, f, panel, count, patches, gradients, sums, first > 0);
    }
}

/* Few channels: each part of the tiles has sums of its own, which stay in the cache of the thread that takes it. */
static void gradient_by_parts(
    const Correlation *of, float *sums, float *work, ptrdiff_t tiles, ptrdiff_t parts, int threads
) {
    ptrdiff_t size = FREQUENCIES * of->panels * of->in * PANEL, each = (of->grid.count + parts - 1) / parts;
    ptrdiff_t scratch = FREQUENCIES * (of->by_in.step + of->by_out.step);
#pragma omp parallel num_threads(threads)
    {
        float *patches = work + omp_get_thread_num() * scratch, *gradients = patches + FREQUENCIES * of->by_in.step;
#pragma omp for schedule(dynamic)
        for (ptrdiff_t part = 0; part < parts; part++) {
            ptrdiff_t last = least(of->grid.count, (part + 1) * each);
            float *own = sums + part * size;
            if (part * each >= last) memset(own, 0, size * sizeof *own);
            for (ptrdiff_t first = part * each; first < last; first += tiles) {
                ptrdiff_t count = least(tiles, last - first);
                for (ptrdiff_t t = 0; t < count; t++) both_to_frequencies(of, first, t, patches, gradients);
                for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
                    for (ptrdiff_t panel = 0; panel < of->panels; panel++)
                        sum_over_tiles(of, f, panel, count, patches, gradients, own, first > part * each);
            }
        }
#pragma omp for schedule(static)
        for (ptrdiff_t i = 0; i < size; i += LANES) {
            vec sum = load(sums + i);
            for (ptrdiff_t part = 1; part < parts; part++) sum += load(sums + part * size + i);
            store(sums + i, sum);
        }
    }
}

/* Floats of `work` that `jcl_weight_gradient` needs. */
ptrdiff_t jcl_weight_gradient_work(ptrdiff_t in, ptrdiff_t out, ptrdiff_t tiles, int threads) {
    return threads * FREQUENCIES * (by_group(in, tiles).step + by_group(out, tiles).step);
}

/* sums [frequency][panel][in][PANEL]: gradient of the weights' frequencies, for `jcl_frequencies_to_weights`.

   parts: how many parts of the tiles have sums of their own, for which `sums` needs the room; the first are the result. */
void jcl_weight_gradient(
    const float *x, const float *gradient, float *sums, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t in,
    ptrdiff_t out, float *work, const float *zeros, ptrdiff_t tiles, ptrdiff_t parts, int threads
) {
    Correlation of = {
        x, gradient, zeros, in, out, (out + PANEL - 1) / PANEL, grid_of(n, h, w), by_group(in, tiles), by_group(out, tiles),
    };
    if (parts == 1)
        gradient_by_blocks(&of, sums, work, tiles, threads);
    else
        gradient_by_parts(&of, sums, work, tiles, parts, threads);
}

/* Rows of weights that are made ready at a time: a line of the cache. */
enum { STRIP = 16 };

/* out [frequency][panel of columns][row][PANEL] from weights whose rows, columns and 3 x 3 taps lie at these steps.

   Rows are the channels that are summed over: the convolution's own inputs, or for the gradient of its input its
   outputs, with `turned` taps. */
void jcl_weights_to_frequencies(
    const float *weights, float *out, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_step, ptrdiff_t column_step,
    ptrdiff_t y_step, ptrdiff_t x_step, int turned, int threads
) {
    ptrdiff_t panels = (columns + PANEL - 1) / PANEL;
#pragma omp parallel for num_threads(threads) collapse(2)
    for (ptrdiff_t panel = 0; panel < panels; panel++)
        for (ptrdiff_t first = 0; first < rows; first += STRIP) {
            ptrdiff_t count = least(STRIP, rows - first), width = least(PANEL, columns - panel * PANEL);
            float taps[STRIP][TAPS][PANEL] = {{{0}}}, made[FREQUENCIES][STRIP][PANEL];
            const float *corner = weights + first * row_step + panel * PANEL * column_step;
            for (ptrdiff_t k = 0; k < width; k++)
                for (int i = 0; i < TAPS; i++) {
                    const float *from = corner + k * column_step + i / 3 * y_step + i % 3 * x_step;
                    for (ptrdiff_t r = 0; r < count; r++) taps[r][turned ? TAPS - 1 - i : i][k] = from[r * row_step];
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
                        for (int j = 0; j < PATCH; j++) store(made[PATCH * i + j][r] + c, line[j]);
                    }
                }
            for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
                memcpy(out + ((f * panels + panel) * rows + first) * PANEL, made[f], count * sizeof made[f][0]);
        }
}

/* Gradient of the weights from `sums` of `jcl_weight_gradient`, written at these steps. */
void jcl_frequencies_to_weights(
    const float *sums, float *weights, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_step, ptrdiff_t column_step,
    ptrdiff_t y_step, ptrdiff_t x_step, int threads
) {
    ptrdiff_t panels = (columns + PANEL - 1) / PANEL, frequency = panels * rows * PANEL;
#pragma omp parallel for num_threads(threads) collapse(2)
    for (ptrdiff_t panel = 0; panel < panels; panel++)
        for (ptrdiff_t first = 0; first < rows; first += STRIP) {
            ptrdiff_t count = least(STRIP, rows - first), width = least(PANEL, columns - panel * PANEL);
            float taps[STRIP][TAPS][PANEL], found[FREQUENCIES][STRIP][PANEL];
            for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
                memcpy(found[f], sums + f * frequency + (panel * rows + first) * PANEL, count * sizeof found[f][0]);
            for (ptrdiff_t r = 0; r < count; r++)
                for (int c = 0; c < PANEL; c += LANES) {
                    vec half[3 * PATCH], line[3];
                    for (int j = 0; j < PATCH; j++) {
#define AT(i) load(found[PATCH * (i) + j][r] + c)
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
            float *corner = weights + first * row_step + panel * PANEL * column_step;
            for (ptrdiff_t k = 0; k < width; k++)
                for (int i = 0; i < TAPS; i++) {
                    float *to = corner + k * column_step + i / 3 * y_step + i % 3 * x_step;
                    for (ptrdiff_t r = 0; r < count; r++) to[r * row_step] = taps[r][i][k];
                }
        }
}

/* The gradient of the weights of a 3 x 3 convolution by Winograd's tiles: at each frequency a product of small matrices
   sums over tiles. It does not depend on the number of threads. */

#include "frequencies.h"
#include "threads.h"
#include "weights.h"

enum {
    FEW_CHANNELS = 64 * 64, /* inputs times outputs up to which each thread sums tiles of its own, */
    FEW_TILES = 24,         /* so many at a time, */
    PARTS = 16,             /* in so many parts of all tiles, */
    SHARED = 128,           /* and the tiles of a block that all threads share where channels are more */
};

/* What both ways work on. */
typedef struct {
    const float *x, *gradient;
    const Affine *before;
    ptrdiff_t in, out, panels, step; /* step: of the frequencies of sums [frequency][panel][in][PANEL] */
    Grid grid;
    Layout by_in, by_out;
} Correlation;

INLINE int have_parts(ptrdiff_t in, ptrdiff_t out) { return in * out <= FEW_CHANNELS; }

/* Frequencies of `count` tiles, of x and of the gradient. */
static void both_to_frequencies(
    const Correlation *of, ptrdiff_t first, ptrdiff_t count, float *patches, float *gradients
) {
    if (of->before)
        tiles_to_frequencies(of->x, of->in, of->grid, first, count, PATCH, of->before, patches, of->by_in);
    else
        tiles_to_frequencies(of->x, of->in, of->grid, first, count, PATCH, NULL, patches, of->by_in);
    tiles_to_frequencies(of->gradient, of->out, of->grid, first, count, TILE, NULL, gradients, of->by_out);
}

/* Sums of one frequency and panel, over `count` tiles. */
static void sum_over_tiles(
    const Correlation *of, ptrdiff_t f, ptrdiff_t panel, ptrdiff_t count, const float *patches, const float *gradients,
    float *sums, int add
) {
    const float *a = patches + f * of->by_in.step, *b = gradients + f * of->by_out.step + 2 * panel * of->by_out.group;
    float *to = sums + f * of->step + panel * of->in * PANEL;
    for (ptrdiff_t c = 0; c < of->in; c += HALF)
        product_of(
            HALF, count, a + c / LANES * of->by_in.group + c % LANES, 1, LANES, b, LANES, of->by_out.group,
            to + c * PANEL, add, NULL
        );
}

/* Many channels: the threads share the tiles of a block, then its frequencies. */
static void sum_by_blocks(const Correlation *of, float *sums, float *work, int threads) {
    float *patches = work, *gradients = work + FREQUENCIES * of->by_in.step;
#pragma omp parallel num_threads(threads)
    for (ptrdiff_t first = 0; first < of->grid.count; first += SHARED) {
        ptrdiff_t count = least(SHARED, of->grid.count - first);
#pragma omp for schedule(static)
        for (ptrdiff_t t = 0; t < count; t += RUN)
            both_to_frequencies(of, first + t, least(RUN, count - t), patches + t * LANES, gradients + t * LANES);
#pragma omp for schedule(dynamic) collapse(2)
        for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
            for (ptrdiff_t panel = 0; panel < of->panels; panel++)
                sum_over_tiles(of, f, panel, count, patches, gradients, sums, first > 0);
    }
}

/* Few channels: each part of the tiles has sums of its own, which stay in the cache of the thread that takes it. */
static void sum_by_parts(const Correlation *of, float *sums, float *work, int threads) {
    ptrdiff_t size = FREQUENCIES * of->step, each = (of->grid.count + PARTS - 1) / PARTS;
    ptrdiff_t scratch = FREQUENCIES * (of->by_in.step + of->by_out.step);
#pragma omp parallel num_threads(threads)
    {
        float *patches = work + omp_get_thread_num() * scratch, *gradients = patches + FREQUENCIES * of->by_in.step;
#pragma omp for schedule(dynamic)
        for (ptrdiff_t part = 0; part < PARTS; part++) {
            ptrdiff_t last = least(of->grid.count, (part + 1) * each);
            float *own = sums + part * size;
            if (part * each >= last) memset(own, 0, size * sizeof *own);
            for (ptrdiff_t first = part * each; first < last; first += FEW_TILES) {
                ptrdiff_t count = least(FEW_TILES, last - first);
                both_to_frequencies(of, first, count, patches, gradients);
                for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
                    for (ptrdiff_t panel = 0; panel < of->panels; panel++)
                        sum_over_tiles(of, f, panel, count, patches, gradients, own, first > part * each);
            }
        }
#pragma omp for schedule(static)
        for (ptrdiff_t i = 0; i < size; i += LANES) {
            vec sum = load(sums + i);
            for (ptrdiff_t part = 1; part < PARTS; part++) sum += load(sums + part * size + i);
            store(sums + i, sum);
        }
    }
}

/* Floats of `work` that `jcl_weight_gradient` needs. */
ptrdiff_t jcl_weight_gradient_work(ptrdiff_t in, ptrdiff_t out, int threads) {
    ptrdiff_t parts = have_parts(in, out) ? PARTS : 1, tiles = parts > 1 ? FEW_TILES : SHARED;
    return parts * FREQUENCIES * panel_step(panels_of(out) * in) +
           (parts > 1 ? threads : 1) * FREQUENCIES * (by_group(in, tiles).step + by_group(out, tiles).step);
}

/* result: the gradient of weights whose rows are the channels of x, which is normalised `before` (or not, NULL). */
void jcl_weight_gradient(
    const float *x, const Affine *before, const float *gradient, const Weights *result, ptrdiff_t n, ptrdiff_t h,
    ptrdiff_t w, float *work, int threads
) {
    ptrdiff_t in = result->rows, out = result->columns, panels = panels_of(out), step = panel_step(panels * in);
    int by_parts = have_parts(in, out);
    ptrdiff_t tiles = by_parts ? FEW_TILES : SHARED;
    Correlation of = {
        x, gradient, before, in, out, panels, step, grid_of(n, h, w), by_group(in, tiles), by_group(out, tiles),
    };
    float *sums = work, *rest = work + (by_parts ? PARTS : 1) * FREQUENCIES * step;
    if (by_parts)
        sum_by_parts(&of, sums, rest, threads);
    else
        sum_by_blocks(&of, sums, rest, threads);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (ptrdiff_t panel = 0; panel < panels; panel++)
        frequencies_to_panel(result, panel, sums + panel * in * PANEL, step);
}

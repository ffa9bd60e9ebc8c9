/* Convolutions of 3 x 3, stride 1, padding 1, by Winograd's tiles; float32, channels last, channels a multiple of LANES.

   Everything is computed in blocks that fit the cache: patches of the image become frequencies, at each frequency a
   product of small matrices sums over channels, and the result goes back. What stands before a convolution or behind it
   is done on the way, since moving an array costs as much as computing with it. What is computed does not depend on
   the number of threads. */

#include "frequencies.h"
#include "outputs.h"
#include "threads.h"
#include "weights.h"

enum {
    BLOCK = 24,     /* tiles that a thread takes at a time, a multiple of ROWS: their frequencies stay in its cache */
    MANY = 1 << 20, /* floats of weights that do not */
};

/* A convolution: what, from where, to where. */
typedef struct {
    const float *x;
    const Affine *before;
    const Weights *weights;
    Grid grid;
    Panel to;
} Convolution;

ptrdiff_t jcl_lanes(void) { return LANES; }

/* Tiles of a block where there are `count`: as many blocks as two threads can share, however few tiles there are. */
INLINE ptrdiff_t block_of(ptrdiff_t count) {
    ptrdiff_t blocks = (count + 2 * BLOCK - 1) / (2 * BLOCK) * 2;
    return (count + blocks * ROWS - 1) / (blocks * ROWS) * ROWS;
}

/* Blocks of tiles, which have sums of their own. */
ptrdiff_t jcl_convolve_blocks(ptrdiff_t n, ptrdiff_t h, ptrdiff_t w) {
    ptrdiff_t count = grid_of(n, h, w).count, tiles = block_of(count);
    return (count + tiles - 1) / tiles;
}

/* Floats of `work` that `jcl_convolve` needs. */
ptrdiff_t jcl_convolve_work(ptrdiff_t in, ptrdiff_t out, int threads) {
    ptrdiff_t scratch = by_tile(in, BLOCK).step + by_tile(PANEL, BLOCK).step;
    return FREQUENCIES * (panels_of(out) * panel_step(in) + threads * scratch);
}

/* Frequencies of the patches of `count` tiles. */
static void patches_of(const Convolution *of, ptrdiff_t first, ptrdiff_t count, float *out, Layout layout) {
    if (of->before)
        tiles_to_frequencies(of->x, of->weights->rows, of->grid, first, count, PATCH, of->before, out, layout);
    else
        tiles_to_frequencies(of->x, of->weights->rows, of->grid, first, count, PATCH, NULL, out, layout);
}

/* The outputs of `count` tiles in one panel, of `weights` made ready; all of it is one block of sums. */
static void panel_of_outputs(
    const Convolution *of, ptrdiff_t panel, const float *weights, const float *patches, Layout by_in, ptrdiff_t first,
    ptrdiff_t count, ptrdiff_t block, float *products, Layout by_panel, int fetch
) {
    ptrdiff_t in = of->weights->rows;
    for (ptrdiff_t f = 0; f < FREQUENCIES; f++) {
        const float *now = weights + f * panel_step(in), *next = now + panel_step(in);
        /* the last rows may be of no tile: what they hold goes nowhere */
        for (ptrdiff_t t = 0; t < count; t += ROWS) {
            const float *a = patches + f * by_in.step + t * in;
            float *to = products + f * by_panel.step + t * PANEL;
            if (fetch)
                product_of(ROWS, in, a, in, 1, now, PANEL, LANES, to, 0, next + t / ROWS * (in / AHEAD) * PANEL);
            else
                product_of(ROWS, in, a, in, 1, now, PANEL, LANES, to, 0, NULL);
        }
    }
    Panel to = of->to;
    to.column = panel * PANEL, to.width = least(PANEL, to.channels - to.column);
    Totals totals = {.count = 0};
    for (ptrdiff_t t = 0; t < count; t++)
        frequencies_to_outputs(products + t * PANEL, by_panel.step, &to, of->grid, first + t, &totals);
    keep_totals(&to, &totals, block);
}

/* The weights are made ready, then each thread takes blocks of tiles. */
static void convolve_by_tiles(const Convolution *of, float *work, int threads) {
    ptrdiff_t in = of->weights->rows, out = of->weights->columns, panels = panels_of(out), size = FREQUENCIES * panel_step(in);
    ptrdiff_t tiles = block_of(of->grid.count), blocks = (of->grid.count + tiles - 1) / tiles;
    Layout by_in = by_tile(in, BLOCK), by_panel = by_tile(PANEL, BLOCK);
    float *ready = work, *rest = work + panels * size;
    int fetch = panels * size >= MANY;
#pragma omp parallel num_threads(threads)
    {
        float *patches = rest + omp_get_thread_num() * FREQUENCIES * (by_in.step + by_panel.step);
        float *products = patches + FREQUENCIES * by_in.step;
#pragma omp for schedule(static)
        for (ptrdiff_t panel = 0; panel < panels; panel++)
            panel_to_frequencies(of->weights, panel, ready + panel * size);
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < blocks; block++) {
            ptrdiff_t first = block * tiles, count = least(tiles, of->grid.count - first);
            patches_of(of, first, count, patches, by_in);
            for (ptrdiff_t panel = 0; panel < panels; panel++)
                panel_of_outputs(
                    of, panel, ready + panel * size, patches, by_in, first, count, block, products, by_panel, fetch
                );
        }
        finish_streams();
    }
}

/* y (n, h, w, out) = x (n, h, w, in) * weights.

   before: a normalisation of x, or NULL. */
void jcl_convolve(
    const float *x, const Affine *before, const Weights *weights, float *y, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w,
    const Epilogue *epilogue, float *work, int threads
) {
    ptrdiff_t out = weights->columns;
    Convolution of = {x, before, weights, grid_of(n, h, w), {y, out, 0, 0, is_large(n * h * w * out), epilogue}};
    convolve_by_tiles(&of, work, threads);
}

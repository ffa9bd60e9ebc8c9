/* Batch normalisation and the leaky ReLU behind it, channels last, channels a multiple of LANES.

   Rows are pixels. Sums go over blocks of rows whose size is fixed, so they do not depend on the number of threads;
   the caller adds the blocks up. A slope of 1 is no activation, a slope of 0 is ReLU. */

#include "stored.h"

enum { BLOCK = 512 };

INLINE ptrdiff_t blocks_of(ptrdiff_t rows) { return (rows + BLOCK - 1) / BLOCK; }

#ifndef BFLOAT16
ptrdiff_t jcl_block_rows(void) { return BLOCK; }

ptrdiff_t jcl_blocks(ptrdiff_t rows) { return blocks_of(rows); }
#endif

/* parts [block][2][channels]: mean of the block, and sum of squared distances from it. */
void NAMED(jcl_moments)(const stored *x, ptrdiff_t rows, ptrdiff_t channels, float *parts, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (ptrdiff_t block = 0; block < blocks_of(rows); block++) {
        ptrdiff_t count = least(BLOCK, rows - block * BLOCK);
        for (ptrdiff_t c = 0; c < channels; c += LANES) {
            const stored *from = x + block * BLOCK * channels + c;
            vec even = {0}, odd = {0};
            for (ptrdiff_t r = 0; r + 1 < count; r += 2) {
                even += load_stored(from + r * channels);
                odd += load_stored(from + (r + 1) * channels);
            }
            if (count % 2) even += load_stored(from + (count - 1) * channels);
            vec mean = (even + odd) / (float)count;
            even = odd = (vec){0};
            for (ptrdiff_t r = 0; r + 1 < count; r += 2) {
                vec a = load_stored(from + r * channels) - mean, b = load_stored(from + (r + 1) * channels) - mean;
                even += a * a;
                odd += b * b;
            }
            if (count % 2) {
                vec a = load_stored(from + (count - 1) * channels) - mean;
                even += a * a;
            }
            store(parts + 2 * block * channels + c, mean);
            store(parts + (2 * block + 1) * channels + c, even + odd);
        }
    }
}

/* y = activation((x - mean) * scale + shift) */
void NAMED(jcl_normalise)(const stored *x, stored *y, ptrdiff_t rows, ptrdiff_t channels, const Affine *by, int threads) {
    int streamed = is_large_stored(rows * channels);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t c = 0; c < channels; c += LANES) {
                vec value = normalised(by, c, load_stored(x + r * channels + c));
                if (streamed)
                    stream_stored(y + r * channels + c, value);
                else
                    store_stored(y + r * channels + c, value);
            }
        finish_streams();
    }
}

/* parts [block][2][channels]: sums of the gradient before the activation, and of it times x - mean. */
void NAMED(jcl_gradient_sums)(
    const stored *x, const stored *gradient, ptrdiff_t rows, ptrdiff_t channels, const Affine *of, float *parts, int threads
) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (ptrdiff_t block = 0; block < blocks_of(rows); block++) {
        ptrdiff_t last = least(rows, (block + 1) * BLOCK);
        for (ptrdiff_t c = 0; c < channels; c += LANES) {
            vec centre = load(of->mean + c), factor = load(of->scale + c), added = load(of->shift + c);
            vec sum = {0}, product = {0};
            for (ptrdiff_t r = block * BLOCK; r < last; r++) {
                vec distance = load_stored(x + r * channels + c) - centre, g = load_stored(gradient + r * channels + c);
                g = choose(distance * factor + added, g, of->slope * g);
                sum += g;
                product += g * distance;
            }
            store(parts + 2 * block * channels + c, sum);
            store(parts + (2 * block + 1) * channels + c, product);
        }
    }
}

/* out = scale * g - mean_g - (x - mean) * along_g, where g is the gradient before the activation; out may be gradient. */
void NAMED(jcl_normalise_gradient)(
    const stored *x, const stored *gradient, stored *out, ptrdiff_t rows, ptrdiff_t channels, const Affine *of,
    const float *mean_g, const float *along_g, int threads
) {
    int streamed = is_large_stored(rows * channels) && out != gradient;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t c = 0; c < channels; c += LANES) {
                vec distance = load_stored(x + r * channels + c) - load(of->mean + c), factor = load(of->scale + c);
                vec g = load_stored(gradient + r * channels + c);
                g = choose(distance * factor + load(of->shift + c), g, of->slope * g);
                g = factor * g - load(mean_g + c) - distance * load(along_g + c);
                if (streamed)
                    stream_stored(out + r * channels + c, g);
                else
                    store_stored(out + r * channels + c, g);
            }
        finish_streams();
    }
}

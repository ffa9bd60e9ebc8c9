/* Bands of images with a border of zeros, in bfloat16: what a thread takes at a time of a convolution of 3 x 3.

   A band is whole lines of one image, or several small images. In it pixels follow each other line by line, each line with a
   pixel of border on either side, so that a neighbour is the same number of pixels away wherever a pixel lies: a
   convolution is a product of matrices of which the two last outputs of each line, and two lines of each image, are of
   no pixel. */
#ifndef JCL_BANDS_H
#define JCL_BANDS_H

#include "matrices.h"
#include "taps.h"

enum {
    BAND = 1 << 18, /* values of a band, about: the cache of a core holds it */
    LEAST_BAND = 512,
    MOST_BAND = 4096, /* pixels of it */
    SHARES = 4,       /* bands that there are at least, where there are as many images */
};

INLINE ptrdiff_t most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

/* Values of a pixel in a band: channels, and zeros up to a whole tile. */
INLINE ptrdiff_t padded(ptrdiff_t channels) { return (channels + DEPTH - 1) / DEPTH * DEPTH; }

/* How n images of h x w pixels are cut: rows of outputs in a band, images in it, bands of an image, and all bands;
   pixels of a line with its border, and lines of an image in the band with theirs. */
typedef struct {
    ptrdiff_t n, h, w, rows, images, per_image, count, line, lines;
} Bands;

INLINE Bands bands_of(ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t channels) {
    ptrdiff_t line = w + 2, pixels = least(MOST_BAND, most(LEAST_BAND, BAND / padded(channels)));
    ptrdiff_t rows = least(h, most(1, pixels / line)), images = 1;
    ptrdiff_t per_image = (h + rows - 1) / rows;
    rows = (h + per_image - 1) / per_image;
    if (per_image == 1) images = most(1, least(pixels / (line * (h + 2)), n / SHARES));
    return (Bands){n, h, w, rows, images, per_image, (n + images - 1) / images * per_image, line, rows + 2};
}

/* One band: the first of its images, how many, and the first of its rows of outputs, and how many; pixels of it with all
   borders, and of outputs. */
typedef struct {
    ptrdiff_t image, images, top, rows, lines, pixels, outputs;
} Part;

INLINE Part part_of(const Bands *of, ptrdiff_t band) {
    Part part;
    part.image = band / of->per_image * of->images;
    part.images = least(of->images, of->n - part.image);
    part.top = band % of->per_image * of->rows;
    part.rows = least(of->rows, of->h - part.top);
    part.lines = part.rows + 2;
    part.pixels = part.images * part.lines * of->line;
    part.outputs = part.pixels - 2 * of->line;
    return part;
}

/* Pixels that a band may be read beyond its end: the last rows of a product, at the last tap. */
INLINE ptrdiff_t slack_of(const Bands *of) { return 2 * of->line + 2 + SIDE; }

/* Pixels of the largest band, and its slack. */
INLINE ptrdiff_t room_of(const Bands *of) { return of->images * of->lines * of->line + slack_of(of); }

/* Where the taps of an output are: pixels from it on. */
INLINE void taps_of(const Bands *of, ptrdiff_t step, ptrdiff_t *offsets) {
    for (ptrdiff_t tap = 0; tap < TAPS; tap++) offsets[tap] = (tap / 3 * of->line + tap % 3) * step;
}

#endif

/* The gradient of the weights of a 3 x 3 convolution in bfloat16, with sums in float32: at each tap a product of matrices
   sums over the pixels of a band. It does not depend on the number of threads.

   The gradient's channels are the rows of the left matrix, which is the same for all taps; the pixels of x are the rows
   of the right one, which begins elsewhere for each. Two of its rows lie in turn, so there is a second copy of it that
   begins a pixel later. */

#include <string.h>

#include "bands.h"
#include "threads.h"
#include "turn.h"

enum {
    FEW_CHANNELS = 128 * 128, /* inputs times outputs up to which each thread sums bands of its own, */
    PARTS = 16,               /* in so many parts of all bands; */
    MANY_CHANNELS = BAND / 2048, /* as which bands are cut where there are more */
    CHUNK = 1024,             /* pixels of a band that a product sums over */
    SQUARE = SIDE * SIDE,
};

/* What both ways work on. */
typedef struct {
    const bfloat *x, *gradient;
    const Affine *before;
    ptrdiff_t in, out;
    Bands bands;
    ptrdiff_t length; /* pixels of a band as far as it is read, and values of a row of the left matrix */
} Correlation;

INLINE int have_parts(ptrdiff_t in, ptrdiff_t out) { return in * out <= FEW_CHANNELS; }

/* Groups of SIDE channels. */
INLINE ptrdiff_t groups_of(ptrdiff_t channels) { return (channels + SIDE - 1) / SIDE; }

INLINE Correlation correlation_of(
    const bfloat *x, const Affine *before, const bfloat *gradient, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t in,
    ptrdiff_t out
) {
    Bands bands = bands_of(n, h, w, have_parts(in, out) ? in + out : MANY_CHANNELS);
    /* an odd number of lines of the cache, or rows would fall into the same few of them */
    ptrdiff_t length = (room_of(&bands) + 2 * DEPTH) / (2 * DEPTH) * 2 * DEPTH + DEPTH;
    return (Correlation){x, gradient, before, in, out, bands, length};
}

/* Where the pixels of a band are in x and in the gradient, -1 where there is none: `length` each. */
static void places_of(const Correlation *of, const Part *part, int32_t *of_x, int32_t *of_gradient) {
    const Bands *bands = &of->bands;
    for (ptrdiff_t q = 0; q < of->length; q++) of_x[q] = of_gradient[q] = -1;
    for (ptrdiff_t l = 0; l < part->images * part->lines; l++) {
        ptrdiff_t image = part->image + l / part->lines, row = l % part->lines, y = part->top + row - 1;
        ptrdiff_t first = (image * bands->h + y) * bands->w;
        int32_t *to_x = of_x + l * bands->line + 1, *to_gradient = of_gradient + l * bands->line;
        if (y >= 0 && y < bands->h)
            for (ptrdiff_t p = 0; p < bands->w; p++) to_x[p] = (int32_t)(first + p);
        if (row < part->rows)
            for (ptrdiff_t p = 0; p < bands->w; p++) to_gradient[p] = (int32_t)(first + bands->w + p);
    }
}

/* LANES channels of a pixel, in the lower half of each; zero where there is none. */
INLINE bits pixel_of(const bfloat *x, ptrdiff_t channels, ptrdiff_t c, int32_t place, const Affine *before) {
    if (place < 0) return (bits){0};
    const bfloat *from = x + place * channels + c;
    if (before) return __builtin_convertvector(to_bfloat(normalised(before, c, load_bfloat(from))), bits);
    return __builtin_convertvector(*(const halves *)from, bits);
}

/* Channels of the gradient as rows, of all pixels of a band: a group of them, from c on. */
static void fill_rows(const Correlation *of, const int32_t *places, ptrdiff_t c, bfloat *out) {
    ptrdiff_t channels = least(SIDE, of->out - c);
    uint32_t pairs[GROUP][GROUP];
    for (ptrdiff_t g = 0; g < channels; g += GROUP)
        for (ptrdiff_t q = 0; q < of->length; q += DEPTH) {
            const int32_t *two = places + q;
            for (int p = 0; p < GROUP; p++, two += 2)
                for (int v = 0; v < GROUP; v += LANES) {
                    bits even = pixel_of(of->gradient, of->out, c + g + v, two[0], NULL);
                    *(bits *)(pairs[p] + v) = even | pixel_of(of->gradient, of->out, c + g + v, two[1], NULL) << 16;
                }
            turn((const uint32_t(*)[GROUP])pairs, out + g * of->length + q, of->length);
        }
}

/* Pixels of x in turn, LANES channels from c on, to `even`, and those that begin a pixel later to `odd`. */
INLINE void fill_lines_of(
    const Correlation *of, const int32_t *places, ptrdiff_t c, const Affine *before, bfloat *even, bfloat *odd
) {
    bits first = pixel_of(of->x, of->in, c, places[0], before);
    for (ptrdiff_t q = 0; q < of->length; q += 2, even += 2 * SIDE, odd += 2 * SIDE) {
        bits second = pixel_of(of->x, of->in, c, places[q + 1], before);
        bits third = q + 2 < of->length ? pixel_of(of->x, of->in, c, places[q + 2], before) : (bits){0};
        *(bits *)even = first | second << 16;
        *(bits *)odd = second | third << 16;
        first = third;
    }
}

/* Both copies of a group of channels of x, from c on: `length` lines of SIDE pairs in all. */
static void fill_lines(const Correlation *of, const int32_t *places, ptrdiff_t c, bfloat *out) {
    ptrdiff_t channels = least(SIDE, of->in - c);
    for (ptrdiff_t v = 0; v < channels; v += LANES) {
        bfloat *even = out + 2 * v, *odd = even + of->length * SIDE;
        if (of->before)
            fill_lines_of(of, places, c + v, of->before, even, odd);
        else
            fill_lines_of(of, places, c + v, NULL, even, odd);
    }
}

/* Values of a group of channels as rows, and as lines. */
INLINE ptrdiff_t rows_size(const Correlation *of) { return SIDE * of->length; }

INLINE ptrdiff_t lines_size(const Correlation *of) { return 2 * SIDE * of->length; }

/* Sums [tap][group of outputs][group of inputs][SIDE][SIDE] of one group with one other, over a band. */
static void sum_over_pixels(
    const Correlation *of, const Part *part, const bfloat *rows, const bfloat *lines, float *sums, ptrdiff_t o,
    ptrdiff_t i, int add
) {
    ptrdiff_t offsets[TAPS], none = 0, groups = groups_of(of->in), step = groups_of(of->out) * groups * SQUARE;
    taps_of(&of->bands, 1, offsets);
    for (ptrdiff_t q = 0; q < part->outputs; q += CHUNK)
        for (int tap = 0; tap < TAPS; tap++) {
            ptrdiff_t first = q + offsets[tap];
            const bfloat *copy = lines + (first % 2 ? of->length * SIDE : 0);
            Right right = {copy + first / 2 * 2 * SIDE, 2 * SIDE, SIDE, SIDE * DEPTH};
            Sums to = {sums + tap * step + (o * groups + i) * SQUARE, SIDE, add || q > 0};
            ptrdiff_t depth = padded(least(CHUNK, part->outputs - q)) / DEPTH;
            multiply((Left){rows + q, of->length}, &none, 1, depth, right, to, of->in - i * SIDE > HALF_SIDE);
        }
}

/* The gradient of the weights of one output at one tap, of the sums of all parts to where it is wanted. */
static void keep_sums(const Weights *result, const float *sums, ptrdiff_t step, ptrdiff_t parts, int tap, ptrdiff_t o) {
    ptrdiff_t groups = groups_of(result->rows);
    const float *from = sums + ((tap * groups_of(result->columns) + o / SIDE) * groups * SIDE + o % SIDE) * SIDE;
    float *to = result->at + o * result->column_step + tap / 3 * result->y_step + tap % 3 * result->x_step;
    for (ptrdiff_t i = 0; i < result->rows; i += LANES) {
        const float *at = from + i / SIDE * SQUARE + i % SIDE;
        vec sum = load(at);
        for (ptrdiff_t part = 1; part < parts; part++) sum += load(at + part * step);
        for (int k = 0; k < LANES; k++) to[(i + k) * result->row_step] = ((const float *)&sum)[k];
    }
}

INLINE ptrdiff_t sums_of(ptrdiff_t in, ptrdiff_t out) { return TAPS * groups_of(in) * groups_of(out) * SQUARE; }

/* Values of bfloat16 of a band: both matrices, and where its pixels are. */
INLINE ptrdiff_t scratch_of(const Correlation *of) {
    return groups_of(of->out) * rows_size(of) + groups_of(of->in) * lines_size(of) + 2 * 2 * of->length;
}

/* A band's own memory. */
typedef struct {
    bfloat *rows, *lines;
    int32_t *of_x, *of_gradient;
} Room;

INLINE Room room_in(const Correlation *of, bfloat *work) {
    Room room = {work, work + groups_of(of->out) * rows_size(of), NULL, NULL};
    room.of_x = (int32_t *)(room.lines + groups_of(of->in) * lines_size(of));
    room.of_gradient = room.of_x + of->length;
    return room;
}

INLINE void fill_group(const Correlation *of, const Room *room, ptrdiff_t group) {
    ptrdiff_t outputs = groups_of(of->out), other = group - outputs;
    if (group < outputs)
        fill_rows(of, room->of_gradient, group * SIDE, room->rows + group * rows_size(of));
    else
        fill_lines(of, room->of_x, other * SIDE, room->lines + other * lines_size(of));
}

INLINE void sum_groups(
    const Correlation *of, const Part *part, const Room *room, float *sums, ptrdiff_t o, ptrdiff_t i, int add
) {
    sum_over_pixels(of, part, room->rows + o * rows_size(of), room->lines + i * lines_size(of), sums, o, i, add);
}

/* Few channels: each part of the bands has sums of its own, which stay in the cache of the thread that takes it. */
static void sum_by_parts(const Correlation *of, float *sums, bfloat *work, int threads) {
    ptrdiff_t each = (of->bands.count + PARTS - 1) / PARTS, size = sums_of(of->in, of->out);
    ptrdiff_t outputs = groups_of(of->out), inputs = groups_of(of->in);
#pragma omp parallel num_threads(threads)
    {
        Room room = room_in(of, work + omp_get_thread_num() * scratch_of(of));
        begin_products();
#pragma omp for schedule(dynamic)
        for (ptrdiff_t number = 0; number < PARTS; number++) {
            ptrdiff_t first = number * each, last = least(of->bands.count, first + each);
            float *own = sums + number * size;
            if (first >= last) memset(own, 0, size * sizeof *own);
            for (ptrdiff_t band = first; band < last; band++) {
                Part part = part_of(&of->bands, band);
                places_of(of, &part, room.of_x, room.of_gradient);
                for (ptrdiff_t group = 0; group < outputs + inputs; group++) fill_group(of, &room, group);
                for (ptrdiff_t o = 0; o < outputs; o++)
                    for (ptrdiff_t i = 0; i < inputs; i++) sum_groups(of, &part, &room, own, o, i, band > first);
            }
        }
        end_products();
    }
}

/* Many channels: the threads share a band, and each takes some of the products. */
static void sum_by_channels(const Correlation *of, float *sums, bfloat *work, int threads) {
    Room room = room_in(of, work);
    ptrdiff_t outputs = groups_of(of->out), inputs = groups_of(of->in);
#pragma omp parallel num_threads(threads)
    {
        begin_products();
        for (ptrdiff_t band = 0; band < of->bands.count; band++) {
            Part part = part_of(&of->bands, band);
#pragma omp single
            places_of(of, &part, room.of_x, room.of_gradient);
#pragma omp for schedule(dynamic)
            for (ptrdiff_t group = 0; group < outputs + inputs; group++) fill_group(of, &room, group);
#pragma omp for schedule(dynamic) collapse(2)
            for (ptrdiff_t o = 0; o < outputs; o++)
                for (ptrdiff_t i = 0; i < inputs; i++) sum_groups(of, &part, &room, sums, o, i, band > 0);
        }
        end_products();
    }
}

/* Bytes of `work` that `jcl_direct_gradient` needs. */
ptrdiff_t jcl_direct_gradient_work(ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t in, ptrdiff_t out, int threads) {
    Correlation of = correlation_of(NULL, NULL, NULL, n, h, w, in, out);
    int by_parts = have_parts(in, out);
    ptrdiff_t sums = (by_parts ? PARTS : 1) * sums_of(in, out), scratch = (by_parts ? threads : 1) * scratch_of(&of);
    return sums * sizeof(float) + scratch * sizeof(bfloat);
}

/* result: the gradient of weights whose rows are the channels of x, which is normalised `before` (or not, NULL).

   work: aligned to 64 bytes. */
void jcl_direct_gradient(
    const bfloat *x, const Affine *before, const bfloat *gradient, const Weights *result, ptrdiff_t n, ptrdiff_t h,
    ptrdiff_t w, void *work, int threads
) {
    ptrdiff_t in = result->rows, out = result->columns, parts = have_parts(in, out) ? PARTS : 1;
    Correlation of = correlation_of(x, before, gradient, n, h, w, in, out);
    float *sums = work;
    bfloat *rest = (bfloat *)(sums + parts * sums_of(in, out));
    if (parts > 1)
        sum_by_parts(&of, sums, rest, threads);
    else
        sum_by_channels(&of, sums, rest, threads);
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int tap = 0; tap < TAPS; tap++)
        for (ptrdiff_t o = 0; o < out; o++) keep_sums(result, sums, sums_of(in, out), parts, tap, o);
}

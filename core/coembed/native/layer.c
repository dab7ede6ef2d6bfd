/* A transformer's layer over sequences that lie end to end: attention and feed-forward, each with a residual and a norm.

   All its steps are taken for a few hundred tokens at a time, so that what passes between them stays in the cache: on
   many cores, that traffic takes longer than the products. */
#include "layer.h"
#include "product.h"
#include "vector.h"

#include <math.h>

enum { GROUP = 256, HIDDEN = 128 }; /* tokens taken at once; hidden units of the feed-forward half taken at once */

/* Rows x (plus those of `add`, if any) to a mean of 0 and a deviation of 1, times gain, plus shift. */
__attribute__((target(AMX))) static void normalise(const float *x, const float *add, size_t rows, size_t dim,
                                                   const float *gain, const float *shift, double eps, float *out) {
    for (size_t row = 0; row < rows; row++, x += dim, add += add ? dim : 0, out += dim) {
        __m512 sum = _mm512_setzero_ps(), square = sum;
        for (size_t i = 0; i < dim; i += 16) {
            __m512 value = _mm512_loadu_ps(x + i);
            if (add) value = _mm512_add_ps(value, _mm512_loadu_ps(add + i));
            _mm512_storeu_ps(out + i, value);
            sum = _mm512_add_ps(sum, value);
        }
        __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)dim);
        for (size_t i = 0; i < dim; i += 16) {
            __m512 value = _mm512_sub_ps(_mm512_loadu_ps(out + i), mean);
            square = _mm512_fmadd_ps(value, value, square);
        }
        double variance = _mm512_reduce_add_ps(square) / (float)dim;
        __m512 by = _mm512_set1_ps((float)(1 / sqrt(variance + eps)));
        for (size_t i = 0; i < dim; i += 16) {
            __m512 value = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(out + i), mean), by);
            _mm512_storeu_ps(out + i, _mm512_fmadd_ps(value, _mm512_loadu_ps(gain + i), _mm512_loadu_ps(shift + i)));
        }
    }
}

__attribute__((target(AMX))) static void add_to(float *x, const float *add, size_t count) {
    for (size_t i = 0; i < count; i += 16)
        _mm512_storeu_ps(x + i, _mm512_add_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(add + i)));
}

/* Places in the memory of one call. */
typedef struct {
    char *tiles, *hidden, *room;
    float *qkv, *mixed, *sums;
} places;

/* Rows in tiles through both linear layers of the feed-forward half, to sums [rows, dim]; hidden units go from the first
   to the second a few at a time, in parts. */
__attribute__((target(AMX))) static void feed_forward(const layer *w, const places *at, size_t rows, float *sums) {
    size_t dim = (size_t)w->dim, hidden = (size_t)w->hidden, steps = dim / STEP, padded = up(rows, PAIR);
    int parts = (int)w->parts;
    size_t across = stripe(dim, parts), below = stripe(HIDDEN, parts), beside = stripe(hidden, parts);
    float out[PAIR * PAIR] __attribute__((aligned(64)));
    for (size_t unit = 0; unit < hidden; unit += HIDDEN) {
        size_t units = hidden - unit < HIDDEN ? hidden - unit : HIDDEN;
        for (size_t col = 0; col < units; col += PAIR)
            for (size_t row = 0; row < padded; row += PAIR) {
                product(at->tiles + row / TILE_ROWS * across, across, w->up + (unit + col) / TILE_ROWS * across, across,
                        steps, parts, w->up_bias + unit + col, 0, out, PAIR * sizeof(float));
                for (size_t r = 0; r < PAIR; r++) {
                    char *to = at->hidden + (row + r) / TILE_ROWS * below + col / STEP * (size_t)parts * TILE;
                    split_step(gelu(_mm512_load_ps(out + r * PAIR)), gelu(_mm512_load_ps(out + r * PAIR + 16)), parts,
                               to + r % TILE_ROWS * TILE_BYTES);
                }
            }
        multiply(at->hidden, below, padded, w->down + unit / STEP * (size_t)parts * TILE, beside, dim, units / STEP, parts,
                 unit ? NULL : w->down_bias, sums, dim);
    }
}

/* Sequences of so many tokens each, `n` in all, through the layer, where they are. */
__attribute__((target(AMX))) static void pass(const layer *w, const places *at, const int64_t *lengths, size_t count,
                                              size_t n, float *x) {
    size_t dim = (size_t)w->dim, across = stripe(dim, (int)w->parts), padded = up(n, PAIR);
    int parts = (int)w->parts, post = (int)w->post;
    const float *read = x;
    if (!post) normalise(x, NULL, n, dim, w->attention_gain, w->attention_shift, w->attention_eps, at->mixed), read = at->mixed;
    split(read, 0, dim, n, padded, dim, parts, at->tiles);
    multiply(at->tiles, across, padded, w->qkv, across, 3 * dim, dim / STEP, parts, w->qkv_bias, at->qkv, 3 * dim);
    for (size_t i = 0, start = 0; i < count; start += (size_t)lengths[i++])
        attend(at->qkv + start * 3 * dim, (size_t)lengths[i], (size_t)w->heads, dim / (size_t)w->heads, parts,
               at->mixed + start * dim, at->room);
    split(at->mixed, 0, dim, n, padded, dim, parts, at->tiles);
    multiply(at->tiles, across, padded, w->output, across, dim, dim / STEP, parts, w->output_bias, at->sums, dim);
    if (post) normalise(x, at->sums, n, dim, w->attention_gain, w->attention_shift, w->attention_eps, x);
    else add_to(x, at->sums, n * dim);
    for (size_t start = 0; start < n; start += GROUP) {
        size_t some = n - start < GROUP ? n - start : GROUP;
        float *rows = x + start * dim;
        const float *from = rows;
        if (!post) normalise(rows, NULL, some, dim, w->ff_gain, w->ff_shift, w->ff_eps, at->mixed), from = at->mixed;
        split(from, 0, dim, some, up(some, PAIR), dim, parts, at->tiles);
        feed_forward(w, at, some, at->sums);
        if (post) normalise(rows, at->sums, some, dim, w->ff_gain, w->ff_shift, w->ff_eps, rows);
        else add_to(rows, at->sums, some * dim);
    }
}

/* `count` sequences of `lengths` tokens, end to end in x [n, dim] float32, through the layer, where they are. dim and
   hidden are multiples of 32. Returns 0 where memory is short. */
__attribute__((target(AMX))) EXPORT int ce_layer(const layer *w, size_t count, const int64_t *lengths, float *x) {
    size_t dim = (size_t)w->dim, most = GROUP, longest = 0;
    int parts = (int)w->parts;
    for (size_t i = 0; i < count; i++) longest = (size_t)lengths[i] > longest ? (size_t)lengths[i] : longest;
    most = up(longest > most ? longest : most, PAIR);
    size_t tiles = most * row_bytes(dim, parts), hidden = GROUP * row_bytes(HIDDEN, parts), rows = most * dim * sizeof(float);
    size_t room = up(attend_bytes(longest, dim / (size_t)w->heads, parts), 64);
    char *base = scratch(tiles + hidden + room + 5 * rows);
    if (!base) return 0;
    places at = {base, base + tiles, base + tiles + hidden, (float *)(base + tiles + hidden + room), NULL, NULL};
    at.mixed = at.qkv + most * 3 * dim, at.sums = at.mixed + most * dim;
    tile_config before;
    tiles_begin(&before);
    for (size_t i = 0; i < count;) {
        size_t some = 0, n = 0;
        while (i + some < count && (!some || n + (size_t)lengths[i + some] <= GROUP)) n += (size_t)lengths[i + some++];
        pass(w, &at, lengths + i, some, n, x);
        x += n * dim, i += some;
    }
    tiles_end(&before);
    return 1;
}

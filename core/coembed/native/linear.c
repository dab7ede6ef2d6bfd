/* y = x W' + b: weights laid out for the tiles once, then products with any rows. */
#include "product.h"

/* Bytes that `ce_pack` writes for weights [m, k] in so many parts. */
EXPORT size_t ce_packed_size(size_t m, size_t k, int parts) { return up(m, PAIR) * row_bytes(k, parts); }

/* Weights [m, k], row after row, to tiles [m / 16][k / 32][part] of columns. */
__attribute__((target(AMX))) EXPORT void ce_pack(const void *weights, int half, size_t m, size_t k, int parts, char *out) {
    split(weights, half, k, m, up(m, PAIR), k, parts, out);
    for (char *tile = out; tile < out + ce_packed_size(m, k, parts); tile += TILE) turn(tile);
}

/* Sums [32, 32] to rows and columns of y [n, m] that are there. */
__attribute__((target(AMX))) static void store(const float *sums, int half, size_t n, size_t m, size_t row, size_t col,
                                               void *y) {
    size_t width = half ? 2 : 4, left = m - col < PAIR ? m - col : PAIR;
    __mmask32 mask = left == PAIR ? ~0u : (1u << left) - 1;
    char *to = (char *)y + (row * m + col) * width;
    for (size_t r = 0; r < PAIR && row + r < n; r++, to += m * width, sums += PAIR) {
        __m512 low = _mm512_load_ps(sums), high = _mm512_load_ps(sums + 16);
        if (half) {
            _mm512_mask_storeu_epi16(to, mask, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        } else {
            _mm512_mask_storeu_ps(to, (__mmask16)mask, low);
            _mm512_mask_storeu_ps(to + TILE_BYTES, (__mmask16)(mask >> 16), high);
        }
    }
}

/* x [n, k] times packed weights [m, k] plus bias [m rounded up to 32], to y [n, m]; x and y are both bfloat16 or both
   float32. Returns 0 where memory is short. */
__attribute__((target(AMX))) EXPORT int ce_linear(const void *x, int half, size_t n, size_t k, const char *packed, int parts,
                                                  size_t m, const float *bias, void *y) {
    size_t bytes = row_bytes(k, parts), across = stripe(k, parts), width = half ? 2 : 4;
    size_t most = FAR / bytes / PAIR * PAIR;
    most = most < PAIR ? PAIR : most > up(n, PAIR) ? up(n, PAIR) : most;
    char *rows = scratch(most * bytes + most * PAIR * sizeof(float));
    if (!rows) return 0;
    float *sums = (float *)(rows + most * bytes);
    tile_config before;
    tiles_begin(&before);
    for (size_t start = 0; start < n; start += most) {
        size_t here = n - start < most ? n - start : most;
        split((const char *)x + start * k * width, half, k, here, up(here, PAIR), k, parts, rows);
        for (size_t col = 0; col < m; col += PAIR) {
            multiply(rows, across, up(here, PAIR), packed + col * bytes, across, PAIR, up(k, STEP) / STEP, parts,
                     bias + col, sums, PAIR);
            for (size_t row = 0; row < here; row += PAIR)
                store(sums + row * PAIR, half, here, m, row, col, (char *)y + start * m * width);
        }
    }
    tiles_end(&before);
    return 1;
}

/* One layer of a transformer: what `layer.c` computes, and the attention that it needs. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Weights are packed (`ce_pack`), biases rounded up to 32 numbers; `qkv` is one matrix of 3 dim rows. */
typedef struct {
    int64_t dim, heads, hidden, parts, post;
    const char *qkv, *output, *up, *down;
    const float *qkv_bias, *output_bias, *up_bias, *down_bias;
    const float *attention_gain, *attention_shift, *ff_gain, *ff_shift;
    double attention_eps, ff_eps;
} layer;

size_t attend_bytes(size_t tokens, size_t width, int parts);
void attend(const float *qkv, size_t n, size_t heads, size_t width, int parts, float *out, char *room);

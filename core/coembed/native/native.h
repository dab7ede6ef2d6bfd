/* What the files of this library share: which vector units a machine has, and the shape of a matrix tile. */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,bmi2"
#define AMX AVX512 ",avx512bf16,amx-tile,amx-int8,amx-bf16"
#define EXPORT __attribute__((visibility("default")))

enum { TILE_ROWS = 16, TILE_BYTES = 64, TILE = TILE_ROWS * TILE_BYTES };

/* The first so many of sixteen numbers. */
static inline __mmask16 leading(size_t count) { return count >= 16 ? 0xffff : (__mmask16)((1u << count) - 1); }

/* Eight tiles of 16 rows of 64 bytes, for as long as one call takes. What was configured before is put back: other
   libraries of the process keep a configuration of their own between calls. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} __attribute__((packed, aligned(64))) tile_config;

__attribute__((target(AMX))) static inline void tiles_begin(tile_config *before) {
    tile_config ours = {.palette = 1};
    for (int i = 0; i < 8; i++) ours.bytes[i] = TILE_BYTES, ours.rows[i] = TILE_ROWS;
    _tile_storeconfig(before);
    _tile_loadconfig(&ours);
}

__attribute__((target(AMX))) static inline void tiles_end(const tile_config *before) {
    if (before->palette) _tile_loadconfig(before);
    else _tile_release();
}

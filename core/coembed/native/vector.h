/* Functions of sixteen float32. Their polynomials were fitted by Chebyshev's points. */
#pragma once

#include "native.h"

static const float NORMAL[] = {
    0.000230684134f, -0.000652015209f, 0.000694890099f, -0.00105324958f, 0.0028540229f,
    -0.00543279387f, 0.00844187569f, -0.0127838347f, 0.0185309947f, -0.0250396784f,
    0.0320325904f, -0.0397636667f, 0.0496457219f, -0.0671268106f, 0.13465935f,
};
static const float POWER[] = {0.000154697322f, 0.00134004327f, 0.00961802527f, 0.0555032715f,
                              0.240226507f,    0.693147182f,   1};

/* x times the normal distribution's P(X <= x) (Hendrycks and Gimpel 2016, arXiv:1606.08415), to 6e-7.

   P - 1/2 is odd: x times a polynomial of x^2, which is off by 1.3e-7 for |x| <= 5.25; beyond, P is 0 or 1 to 8e-8. It is
   written in u = 2 (x / 5.25)^2 - 1, in which the coefficients stay small. */
__attribute__((target(AMX))) static inline __m512 gelu(__m512 x) {
    const __m512 reach = _mm512_set1_ps(5.25f), one = _mm512_set1_ps(1);
    __m512 u = _mm512_fmsub_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(2 / (5.25f * 5.25f)), one);
    __m512 sum = _mm512_set1_ps(NORMAL[0]);
    for (size_t i = 1; i < sizeof NORMAL / sizeof *NORMAL; i++) sum = _mm512_fmadd_ps(sum, u, _mm512_set1_ps(NORMAL[i]));
    __m512 p = _mm512_fmadd_ps(x, sum, _mm512_set1_ps(0.5f));
    p = _mm512_mask_mov_ps(p, _mm512_cmp_ps_mask(x, reach, _CMP_GE_OQ), one);
    p = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_sub_ps(_mm512_setzero_ps(), reach), _CMP_NLE_UQ), p);
    return _mm512_mul_ps(x, p);
}

/* 2^x, to 1e-7 of itself; 0 for -inf. */
__attribute__((target(AMX))) static inline __m512 power(__m512 x) {
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), sum = _mm512_set1_ps(POWER[0]);
    __m512 rest = _mm512_sub_ps(x, whole);
    for (size_t i = 1; i < sizeof POWER / sizeof *POWER; i++) sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(POWER[i]));
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-150), _CMP_NLT_UQ), sum, whole);
}

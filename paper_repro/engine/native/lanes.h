// Vectors of the widest registers that the compiler is told of, and how activations are stored.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int L = 16;
#elif defined(__AVX__)
constexpr int L = 8;
#else
constexpr int L = 4;
#endif

typedef float vf __attribute__((vector_size(L * 4)));
typedef uint32_t vu __attribute__((vector_size(L * 4)));

#define UNROLL _Pragma("GCC unroll 64")

static inline vf loadf(const float *p) {
    vf x;
    std::memcpy(&x, p, sizeof x);
    return x;
}
static inline void storef(float *p, vf x) { std::memcpy(p, &x, sizeof x); }
static inline vf all(float s) { return s - vf{}; }
// NaN stays NaN, as in PyTorch.
static inline vf relu(vf x) { return vf{} > x ? vf{} : x; }
static inline float total(vf x) {
    float s = 0;
    for (int i = 0; i < L; i++) s += x[i];
    return s;
}

// A block is BLOCK images, the innermost dimension of every activation; in registers it is V
// vectors. How lanes map to images is the storage's own affair: nothing but loads, stores and
// `Images` knows of it.
template <class S> struct Store;

template <> struct Store<float> {
    static constexpr int BLOCK = 16, V = BLOCK / L;
    static inline void load(const float *p, vf (&x)[V]) {
        UNROLL for (int i = 0; i < V; i++) x[i] = loadf(p + i * L);
    }
    static inline void store(float *p, const vf (&x)[V]) {
        UNROLL for (int i = 0; i < V; i++) storef(p + i * L, x[i]);
    }
    static inline float get(float s) { return s; }
    static inline float put(float s) { return s; }
};

// bfloat16: the upper half of a float32. Even and odd images come apart, which costs one
// instruction each.
typedef uint16_t bf16;
template <> struct Store<bf16> {
    static constexpr int BLOCK = 32, V = BLOCK / L;
    static inline void load(const bf16 *p, vf (&x)[V]) {
        UNROLL for (int i = 0; i < V; i += 2) {
            vu w;
            std::memcpy(&w, p + i * L, sizeof w);
            x[i] = (vf)(w << 16);
            x[i + 1] = (vf)(w & 0xffff0000u);
        }
    }
#if defined(__AVX512BF16__)
    static inline void store(bf16 *p, const vf (&x)[V]) {
        alignas(64) static const uint16_t order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                       21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                       11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)x[1], (__m512)x[0]);
        _mm512_storeu_si512(p, _mm512_permutexvar_epi16(_mm512_load_si512(order), both));
    }
#else
    static inline vu rounded(vf x) {  // to nearest, ties to even; in the upper half
        vu u = (vu)x;
        vu r = u + 0x7fffu + ((u >> 16) & 1u);
        return (x == x) ? r : (vu)(u | 0x400000u);
    }
    static inline void store(bf16 *p, const vf (&x)[V]) {
        UNROLL for (int i = 0; i < V; i += 2) {
            vu w = (rounded(x[i]) >> 16) | (rounded(x[i + 1]) & 0xffff0000u);
            std::memcpy(p + i * L, &w, sizeof w);
        }
    }
#endif
    static inline float get(bf16 s) {
        uint32_t u = (uint32_t)s << 16;
        float f;
        std::memcpy(&f, &u, 4);
        return f;
    }
    static inline bf16 put(float f) {
        uint32_t u;
        std::memcpy(&u, &f, 4);
        if (f != f) return (bf16)((u | 0x400000u) >> 16);
        return (bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
};

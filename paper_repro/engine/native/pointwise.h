// Batch norm with ReLU and residual, pooling, and images into the engine's layout.
//
// Activations behind a ReLU have a border of zeros, [block][C][H+2][W+2][BLOCK]; the others have
// none, [block][C][H][W][BLOCK]. Lanes beyond the batch hold 0 in every activation.
#pragma once
#include <cmath>
#include "lanes.h"
#include "op.h"

// 1 in the lanes of a block that hold images, 0 in the others.
template <class S> static inline void lanes_in_use(const Call &c, int block, vf (&keep)[Store<S>::V]) {
    constexpr int B = Store<S>::BLOCK;
    S ones[B];
    for (int i = 0; i < B; i++) ones[i] = Store<S>::put(block * B + i < c.batch ? 1.0f : 0.0f);
    Store<S>::load(ones, keep);
}

template <class S> static inline int64_t inside(int64_t W) {  // from the border's corner
    return (W + 2 + 1) * Store<S>::BLOCK;
}

// x: float [batch, C, H, W] at strides n[3..6] -> o. n: C, H, W, strides (image, C, H, W)
template <class S> static void images(const Op &op, const Call &c, int block, int thread) {
    constexpr int B = Store<S>::BLOCK;
    const int64_t C = op.n[0], H = op.n[1], W = op.n[2];
    const float *x = (const float *)op.x;
    {
        const int present = c.batch - block * B < B ? c.batch - block * B : B;
        for (int64_t ch = 0; ch < C; ch++)
            for (int64_t h = 0; h < H; h++) {
                S *o = (S *)op.o + ((block * C + ch) * (H + 2) + h) * (W + 2) * B + inside<S>(W);
                const float *row = x + block * B * op.n[3] + ch * op.n[4] + h * op.n[5];
                for (int i = 0; i < B; i++)
                    for (int64_t w = 0; w < W; w++)
                        o[w * B + i] =
                            i < present ? Store<S>::put(row[i * op.n[3] + w * op.n[6]]) : S(0);
            }
    }
}

// a = relu(f0 x + f1 [+ f2 y + f3] [+ r]); r has a border too. n: C, H, W,
// whether a is a thread's and not a block's
template <class S> static void norm_relu(const Op &op, const Call &c, int block, int thread) {
    using T = Store<S>;
    constexpr int B = T::BLOCK, V = T::V;
    const int64_t C = op.n[0], H = op.n[1], W = op.n[2];
    {
        vf keep[V];
        lanes_in_use<S>(c, block, keep);
        const bool whole = (block + 1) * B <= c.batch;
        for (int64_t ch = 0; ch < C; ch++) {
            const vf s = all(op.f[0][ch]), s2 = all(op.y ? op.f[2][ch] : 0.0f);
            const vf t = all(op.f[1][ch] + (op.y ? op.f[3][ch] : 0.0f));
            for (int64_t h = 0; h < H; h++) {
                const int64_t u = ((block * C + ch) * H + h) * W * B;
                const int64_t b = ((block * C + ch) * (H + 2) + h) * (W + 2) * B + inside<S>(W);
                const S *x = (const S *)op.x + u;
                const S *y = op.y ? (const S *)op.y + u : nullptr;
                const S *r = op.r ? (const S *)op.r + b : nullptr;
                S *a = (S *)op.a + b + ((op.n[3] ? thread : block) - block) * C * (H + 2) * (W + 2) * B;
                for (int64_t i = 0; i < W * B; i += B) {
                    vf z[V], e[V];
                    T::load(x + i, z);
                    UNROLL for (int v = 0; v < V; v++) z[v] = z[v] * s + t;
                    if (y) {
                        T::load(y + i, e);
                        UNROLL for (int v = 0; v < V; v++) z[v] += e[v] * s2;
                    }
                    if (r) {
                        T::load(r + i, e);
                        UNROLL for (int v = 0; v < V; v++) z[v] += e[v];
                    }
                    UNROLL for (int v = 0; v < V; v++) z[v] = relu(z[v]);
                    if (!whole) { UNROLL for (int v = 0; v < V; v++) z[v] *= keep[v]; }
                    T::store(a + i, z);
                }
            }
        }
    }
}

// o = f0 x + f1 y + f2, with a border, a thread's; x the gradient behind batch norm, y its input. n: C, H, W
template <class S> static void norm_back(const Op &op, const Call &c, int block, int thread) {
    using T = Store<S>;
    constexpr int B = T::BLOCK, V = T::V;
    const int64_t C = op.n[0], H = op.n[1], W = op.n[2];
    {
        vf keep[V];
        lanes_in_use<S>(c, block, keep);
        const bool whole = (block + 1) * B <= c.batch;
        for (int64_t ch = 0; ch < C; ch++) {
            const vf a = all(op.f[0][ch]), b = all(op.f[1][ch]), d = all(op.f[2][ch]);
            for (int64_t h = 0; h < H; h++) {
                const int64_t u = ((block * C + ch) * H + h) * W * B;
                const S *x = (const S *)op.x + u, *y = (const S *)op.y + u;
                S *o = (S *)op.o + ((thread * C + ch) * (H + 2) + h) * (W + 2) * B + inside<S>(W);
                for (int64_t i = 0; i < W * B; i += B) {
                    vf g[V], z[V];
                    T::load(x + i, g);
                    T::load(y + i, z);
                    UNROLL for (int v = 0; v < V; v++) z[v] = g[v] * a + (z[v] * b + d);
                    if (!whole) { UNROLL for (int v = 0; v < V; v++) z[v] *= keep[v]; }
                    T::store(o + i, z);
                }
            }
        }
    }
}

static inline void store_sums(const Op &op, int block, int64_t C, int64_t ch, vf s0, vf s1) {
    float *s = op.stats + ((block * C + ch) * 2) * L;
    storef(s, s0);
    storef(s + L, s1);
}

// Sums of x and x·y a channel into stats. n: C, H, W
template <class S> static void dot(const Op &op, const Call &c, int block, int thread) {
    using T = Store<S>;
    constexpr int B = T::BLOCK, V = T::V;
    const int64_t C = op.n[0], H = op.n[1], W = op.n[2];
    for (int64_t ch = 0; ch < C; ch++) {
        vf s0 = {}, s1 = {};
        const int64_t u = (block * C + ch) * H * W * B;
        for (int64_t h = 0; h < H; h++) {  // row by row: short sums are more exact
            vf r0 = {}, r1 = {};
            for (int64_t i = h * W * B; i < (h + 1) * W * B; i += B) {
                vf x[V], y[V];
                T::load((const S *)op.x + u + i, x);
                T::load((const S *)op.y + u + i, y);
                UNROLL for (int v = 0; v < V; v++) {
                    r0 += x[v];
                    r1 += x[v] * y[v];
                }
            }
            s0 += r0;
            s1 += r1;
        }
        store_sums(op, block, C, ch, s0, s1);
    }
}

// The average over an activation's pixels: f0 is float [batch, C]. n: C, H, W
template <class S> static void pool(const Op &op, const Call &c, int block, int thread) {
    using T = Store<S>;
    constexpr int B = T::BLOCK, V = T::V;
    const int64_t C = op.n[0], H = op.n[1], W = op.n[2];
    const float scale = 1.0f / (H * W);
    for (int64_t ch = 0; ch < C; ch++) {
        vf s[V] = {};
        for (int64_t h = 0; h < H; h++)
            for (int64_t w = 0; w < W; w++) {
                vf x[V];
                T::load((const S *)op.a + ((block * C + ch) * (H + 2) + h) * (W + 2) * B +
                            inside<S>(W) + w * B, x);
                UNROLL for (int v = 0; v < V; v++) s[v] += x[v];
            }
        // bfloat16 would round the average: undo the storage's order of lanes in float32.
        for (int i = 0; i < B && block * B + i < c.batch; i++) {
            const int v = B == 16 ? i / L : (i / (2 * L)) * 2 + i % 2;
            const int lane = B == 16 ? i % L : (i % (2 * L)) / 2;
            op.f[0][(block * B + i) * C + ch] = s[v][lane] * scale;
        }
    }
}

// Its gradient f0 [batch, C] through the ReLU: o, and sums of o and o·y. n: C, H, W
template <class S> static void pool_back(const Op &op, const Call &c, int block, int thread) {
    using T = Store<S>;
    constexpr int B = T::BLOCK, V = T::V;
    const int64_t C = op.n[0], H = op.n[1], W = op.n[2];
    const float scale = 1.0f / (H * W);
    for (int64_t ch = 0; ch < C; ch++) {
        float lanes[V][L] = {};
        for (int i = 0; i < B && block * B + i < c.batch; i++) {
            const int v = B == 16 ? i / L : (i / (2 * L)) * 2 + i % 2;
            const int lane = B == 16 ? i % L : (i % (2 * L)) / 2;
            lanes[v][lane] = op.f[0][(block * B + i) * C + ch] * scale;
        }
        vf s0 = {}, s1 = {};
        for (int64_t h = 0; h < H; h++)
            for (int64_t w = 0; w < W; w++) {
                const int64_t u = (((block * C + ch) * H + h) * W + w) * B;
                vf a[V], y[V], z[V];
                T::load((const S *)op.a + ((block * C + ch) * (H + 2) + h) * (W + 2) * B +
                            inside<S>(W) + w * B, a);
                T::load((const S *)op.y + u, y);
                UNROLL for (int v = 0; v < V; v++) {
                    z[v] = a[v] > vf{} ? loadf(lanes[v]) : vf{};
                    s0 += z[v];
                    s1 += z[v] * y[v];
                }
                T::store((S *)op.o + u, z);
            }
        store_sums(op, block, C, ch, s0, s1);
    }
}

// NaN wins, wherever it is.
static inline vf larger(vf best, vf x) { return (x > best) | (x != x) ? x : best; }

// Largest of each 2 x 2 pixels: a [C, H, W] -> o [C, H/2, W/2], both with a border. n: C, H, W of a
template <class S> static void maxpool(const Op &op, const Call &c, int block, int thread) {
    using T = Store<S>;
    constexpr int B = T::BLOCK, V = T::V;
    const int64_t C = op.n[0], H = op.n[1], W = op.n[2];
    for (int64_t ch = 0; ch < C; ch++)
        for (int64_t h = 0; h < H / 2; h++)
            for (int64_t w = 0; w < W / 2; w++) {
                const S *a = (const S *)op.a + ((block * C + ch) * (H + 2) + 2 * h) * (W + 2) * B +
                             inside<S>(W) + 2 * w * B;
                vf best[V], x[V];
                T::load(a, best);
                UNROLL for (int i = 1; i < 4; i++) {
                    T::load(a + (i / 2) * (W + 2) * B + (i % 2) * B, x);
                    UNROLL for (int v = 0; v < V; v++)
                        best[v] = larger(best[v], x[v]);
                }
                T::store((S *)op.o + ((block * C + ch) * (H / 2 + 2) + h) * (W / 2 + 2) * B +
                             inside<S>(W / 2) + w * B, best);
            }
}

// The gradient x [C, H/2, W/2] to the first of the largest, through the ReLU: o [C, H, W], and sums
// of o and o·y. n: C, H, W of a
template <class S> static void maxpool_back(const Op &op, const Call &c, int block, int thread) {
    using T = Store<S>;
    constexpr int B = T::BLOCK, V = T::V;
    const int64_t C = op.n[0], H = op.n[1], W = op.n[2];
    for (int64_t ch = 0; ch < C; ch++) {
        vf s0 = {}, s1 = {};
        for (int64_t h = 0; h < H / 2; h++)
            for (int64_t w = 0; w < W / 2; w++) {
                const S *a = (const S *)op.a + ((block * C + ch) * (H + 2) + 2 * h) * (W + 2) * B +
                             inside<S>(W) + 2 * w * B;
                vf x[4][V], best[V], g[V];
                T::load(a, best);
                UNROLL for (int i = 0; i < 4; i++) {
                    T::load(a + (i / 2) * (W + 2) * B + (i % 2) * B, x[i]);
                    UNROLL for (int v = 0; v < V; v++) best[v] = larger(best[v], x[i][v]);
                }
                T::load((const S *)op.x + (((block * C + ch) * (H / 2) + h) * (W / 2) + w) * B, g);
                UNROLL for (int v = 0; v < V; v++) g[v] = best[v] > vf{} ? g[v] : vf{};
                UNROLL for (int i = 0; i < 4; i++) {
                    const int64_t u =
                        (((block * C + ch) * H + 2 * h + i / 2) * W + 2 * w + i % 2) * B;
                    vf y[V], z[V];
                    T::load((const S *)op.y + u, y);
                    UNROLL for (int v = 0; v < V; v++) {
                        z[v] = x[i][v] == best[v] ? g[v] : vf{};
                        g[v] = x[i][v] == best[v] ? vf{} : g[v];
                        s0 += z[v];
                        s1 += z[v] * y[v];
                    }
                    T::store((S *)op.o + u, z);
                }
            }
        store_sums(op, block, C, ch, s0, s1);
    }
}

static inline void add_up(const Op &op, const Call &c, int64_t C, int64_t ch, double &s0, double &s1) {
    s0 = s1 = 0;
    for (int block = 0; block < c.blocks; block++) {
        const float *s = op.stats + ((block * C + ch) * 2) * L;
        for (int i = 0; i < L; i++) {
            s0 += s[i];
            s1 += s[L + i];
        }
    }
}

// Batch norm's scale and shift from the batch. f: γ, β, scale, shift, mean, 1/σ, running mean and
// variance. n: C, pixels
static void coefficients_train(const Op &op, const Call &c) {
    const int64_t C = op.n[0];
    const double M = (double)op.n[1] * c.batch;
    for (int64_t k = 0; k < C; k++) {
        double s0, s1;
        add_up(op, c, C, k, s0, s1);
        const double mean = s0 / M;
        double variance = s1 / M - mean * mean;
        if (variance < 0) variance = 0;
        const double inverse = 1 / std::sqrt(variance + c.eps);
        op.f[2][k] = op.f[0][k] * inverse;
        op.f[3][k] = op.f[1][k] - mean * op.f[0][k] * inverse;
        op.f[4][k] = mean;
        op.f[5][k] = inverse;
        if (c.momentum > 0) {
            op.f[6][k] += c.momentum * (mean - op.f[6][k]);
            op.f[7][k] += c.momentum * (variance * M / (M - 1) - op.f[7][k]);
        }
    }
}

// The same from the running statistics. f as above. n: C
static void coefficients_eval(const Op &op, const Call &c) {
    for (int64_t k = 0; k < op.n[0]; k++) {
        const double inverse = 1 / std::sqrt((double)op.f[7][k] + c.eps);
        op.f[2][k] = op.f[0][k] * inverse;
        op.f[3][k] = op.f[1][k] - op.f[6][k] * op.f[0][k] * inverse;
    }
}

// From the sums of dz and dz·y: f: γ, mean, 1/σ -> dγ, dβ, and norm_back's f0, f1, f2. n: C, pixels
static void coefficients_back(const Op &op, const Call &c) {
    const int64_t C = op.n[0];
    const double M = (double)op.n[1] * c.batch;
    for (int64_t k = 0; k < C; k++) {
        double s0, s1;
        add_up(op, c, C, k, s0, s1);
        const double mean = op.f[1][k], inverse = op.f[2][k], g = op.f[0][k] * inverse;
        const double dgamma = inverse * (s1 - mean * s0);
        op.f[3][k] = dgamma;
        op.f[4][k] = s0;
        op.f[5][k] = g;
        op.f[6][k] = -g * inverse * dgamma / M;
        op.f[7][k] = -g * s0 / M + g * inverse * mean * dgamma / M;
    }
}

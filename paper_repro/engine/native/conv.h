// Sparse convolutions: forward, gradient by the input (the same kernel on the transposed pattern)
// and gradient by the weights at the active positions.
//
#pragma once
#include "lanes.h"
#include "op.h"

// STORE: O = sum (+ R).  STATS: O = sum, and sums of O and O² a channel.
// RELU_BACK: O = (sum + R) where A > 0 else 0, and sums of O and O·Y a channel.
enum Mode : int64_t { STORE, STATS, RELU_BACK };

// n: mode, K, Ho, Wo, strides of X (block, row), step of X's columns in pixels,
//    strides of O, Y, R (block, channel, row, column), of A (block, channel, row, column),
//    whether to go on with the sums of another operation, whether X, and whether A is a thread's
//    and not a block's
template <class S, int R, int Q, int STEP, int MODE>
static void conv_block(const Op &op, int block, int thread) {
    using T = Store<S>;
    constexpr int V = T::V, B = T::BLOCK;
    const int K = op.n[1], rows = op.n[2] / R, columns = op.n[3] / Q;
    const int64_t xr = op.n[5];
    const int64_t ok = op.n[8], orow = op.n[9], ocol = op.n[10];
    const int64_t ak = op.n[12], arow = op.n[13], acol = op.n[14];
    const S *X = (const S *)op.x + (op.n[16] ? thread : block) * op.n[4];
    S *O = (S *)op.o + block * op.n[7];
    const S *Y = (const S *)op.y + (op.y ? block * op.n[7] : 0);
    const S *Rs = (const S *)op.r + (op.r ? block * op.n[7] : 0);
    const S *A = (const S *)op.a + (op.a ? (op.n[17] ? thread : block) * op.n[11] : 0);
    float *stats = op.stats + (MODE == STORE ? 0 : (int64_t)block * K * 2 * L);
    if (MODE != STORE && !op.n[15]) std::memset(stats, 0, sizeof(float) * K * 2 * L);
    const int32_t *ptr = op.ptr, *off = op.off;
    const float *w = op.w;
    for (int t = 0; t < rows * columns; t++) {
        const int tr = t / columns, tq = t % columns;
        const S *base = X + tr * R * xr + (int64_t)tq * Q * STEP * B;
        const int64_t ot = tr * R * orow + tq * Q * ocol, at = tr * R * arow + tq * Q * acol;
        for (int k = 0; k < K; k++) {
            vf sum[R][Q][V] = {};
            for (int p = ptr[k]; p < ptr[k + 1]; p++) {
                const S *b = base + off[p];
                const vf weight = all(w[p]);
                UNROLL for (int r = 0; r < R; r++) {
                    UNROLL for (int q = 0; q < Q; q++) {
                        vf x[V];
                        T::load(b + r * xr + q * STEP * B, x);
                        UNROLL for (int v = 0; v < V; v++) sum[r][q][v] += x[v] * weight;
                    }
                }
            }
            vf s0 = {}, s1 = {};
            UNROLL for (int r = 0; r < R; r++) {
                UNROLL for (int q = 0; q < Q; q++) {
                    const int64_t o = ot + k * ok + r * orow + q * ocol;
                    vf(&z)[V] = sum[r][q];
                    if (MODE != STATS && Rs) {
                        vf add[V];
                        T::load(Rs + o, add);
                        UNROLL for (int v = 0; v < V; v++) z[v] += add[v];
                    }
                    if (MODE == RELU_BACK) {
                        vf a[V], y[V];
                        T::load(A + at + k * ak + r * arow + q * acol, a);
                        T::load(Y + o, y);
                        UNROLL for (int v = 0; v < V; v++) {
                            z[v] = a[v] > vf{} ? z[v] : vf{};
                            s0 += z[v];
                            s1 += z[v] * y[v];
                        }
                    }
                    if (MODE == STATS) {
                        UNROLL for (int v = 0; v < V; v++) {
                            s0 += z[v];
                            s1 += z[v] * z[v];
                        }
                    }
                    T::store(O + o, z);
                }
            }
            if (MODE != STORE) {
                float *s = stats + (int64_t)k * 2 * L;
                storef(s, loadf(s) + s0);
                storef(s + L, loadf(s + L) + s1);
            }
        }
    }
}

template <class S, int R, int Q, int STEP>
static void conv_tiled(const Op &op, int block, int thread) {
    switch (op.n[0]) {
        case STORE: return conv_block<S, R, Q, STEP, STORE>(op, block, thread);
        case STATS: return conv_block<S, R, Q, STEP, STATS>(op, block, thread);
        default: return conv_block<S, R, Q, STEP, RELU_BACK>(op, block, thread);
    }
}

// Pixels of an output tile: as many sums as registers hold beside a weight and an input.
template <class S> struct Tile {
    static constexpr int sums = (L == 16 ? 16 : L == 8 ? 8 : 8) / Store<S>::V;
};

template <class S, int STEP> static void conv_step(const Op &op, int block, int thread) {
    constexpr int sums = Tile<S>::sums;
    const int64_t H = op.n[2], W = op.n[3];
    if constexpr (sums == 16) {
        if (H % 2 == 0 && W % 8 == 0) return conv_tiled<S, 2, 8, STEP>(op, block, thread);
        if (H % 4 == 0 && W % 4 == 0) return conv_tiled<S, 4, 4, STEP>(op, block, thread);
    }
    if constexpr (sums >= 8) {
        if (W % 8 == 0) return conv_tiled<S, 1, 8, STEP>(op, block, thread);
        if (H % 2 == 0 && W % 4 == 0) return conv_tiled<S, 2, 4, STEP>(op, block, thread);
    }
    if constexpr (sums >= 4) {
        if (H % 2 == 0 && W % 2 == 0) return conv_tiled<S, 2, 2, STEP>(op, block, thread);
    } else if constexpr (sums >= 2) {
        if (W % 2 == 0) return conv_tiled<S, 1, 2, STEP>(op, block, thread);
    }
    conv_tiled<S, 1, 1, STEP>(op, block, thread);
}

template <class S> static void conv(const Op &op, const Call &, int block, int thread) {
    if (op.n[6] == 1)
        conv_step<S, 1>(op, block, thread);
    else
        conv_step<S, 2>(op, block, thread);
}

// dv[p] = sum over images and pixels of dY[k] · X[off p].
// x, y: X and dY (inside its border, a thread's); stats: L floats an active weight and thread;
// n: -, K, Ho, Wo, strides of X (block, row), step of X's columns, strides of dY (thread, channel,
//    row), whether X is a thread's too; f[0]: dv of each block
template <class S, int R, int Q, int STEP>
static void wgrad_tiled(const Op &op, int block, int thread) {
    using T = Store<S>;
    constexpr int V = T::V, B = T::BLOCK, CHAINS = R * Q * V < 4 ? R * Q * V : 4;
    const int K = op.n[1], rows = op.n[2] / R, columns = op.n[3] / Q;
    const int64_t xr = op.n[5], dk = op.n[8], dr = op.n[9];
    const int32_t *ptr = op.ptr, *off = op.off;
    const S *X = (const S *)op.x + (op.n[10] ? thread : block) * op.n[4];
    const S *D = (const S *)op.y + thread * op.n[7];
    const int count = ptr[K];
    float *part = op.stats + (int64_t)thread * count * L, *dv = op.f[0] + (int64_t)block * count;
    std::memset(part, 0, sizeof(float) * L * count);
    for (int t = 0; t < rows * columns; t++) {
        const int tr = t / columns, tq = t % columns;
        const S *base = X + tr * R * xr + (int64_t)tq * Q * STEP * B;
        const S *d0 = D + tr * R * dr + tq * Q * B;
        for (int k = 0; k < K; k++) {
            if (ptr[k] == ptr[k + 1]) continue;
            vf d[R][Q][V];
            UNROLL for (int r = 0; r < R; r++) {
                UNROLL for (int q = 0; q < Q; q++) T::load(d0 + k * dk + r * dr + q * B, d[r][q]);
            }
            for (int p = ptr[k]; p < ptr[k + 1]; p++) {
                const S *b = base + off[p];
                vf sum[CHAINS] = {};
                sum[0] = loadf(part + (int64_t)p * L);
                UNROLL for (int r = 0; r < R; r++) {
                    UNROLL for (int q = 0; q < Q; q++) {
                        vf x[V];
                        T::load(b + r * xr + q * STEP * B, x);
                        UNROLL for (int v = 0; v < V; v++) {
                            sum[((r * Q + q) * V + v) % CHAINS] += x[v] * d[r][q][v];
                        }
                    }
                }
                vf s = sum[0];
                UNROLL for (int i = 1; i < CHAINS; i++) s += sum[i];
                storef(part + (int64_t)p * L, s);
            }
        }
    }
    for (int p = 0; p < count; p++) dv[p] = total(loadf(part + (int64_t)p * L));
}

// w = the sum of f[0] over blocks. n: active weights
static void wgrad_sum(const Op &op, const Call &c) {
    const int64_t count = op.n[0];
    for (int64_t p = 0; p < count; p++) {
        float s = 0;
        for (int block = 0; block < c.blocks; block++) s += op.f[0][block * count + p];
        op.w[p] = s;
    }
}

template <class S, int STEP> static void wgrad_step(const Op &op, int block, int thread) {
    constexpr int sums = Tile<S>::sums;
    const int64_t H = op.n[2], W = op.n[3];
    if constexpr (sums == 16) {
        if (H % 2 == 0 && W % 8 == 0) return wgrad_tiled<S, 2, 8, STEP>(op, block, thread);
        if (H % 4 == 0 && W % 4 == 0) return wgrad_tiled<S, 4, 4, STEP>(op, block, thread);
    }
    if constexpr (sums >= 8) {
        if (W % 8 == 0) return wgrad_tiled<S, 1, 8, STEP>(op, block, thread);
        if (H % 2 == 0 && W % 4 == 0) return wgrad_tiled<S, 2, 4, STEP>(op, block, thread);
    }
    if constexpr (sums >= 4) {
        if (H % 2 == 0 && W % 2 == 0) return wgrad_tiled<S, 2, 2, STEP>(op, block, thread);
    } else if constexpr (sums >= 2) {
        if (W % 2 == 0) return wgrad_tiled<S, 1, 2, STEP>(op, block, thread);
    }
    wgrad_tiled<S, 1, 1, STEP>(op, block, thread);
}

template <class S> static void wgrad(const Op &op, const Call &, int block, int thread) {
    if (op.n[6] == 1)
        wgrad_step<S, 1>(op, block, thread);
    else
        wgrad_step<S, 2>(op, block, thread);
}

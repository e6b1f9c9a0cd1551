// Where a convolution's active weights read: offsets that the kernels add to a tile's address.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>
#include "op.h"

// A layer's numbers, as Python hands them over.
// C, K, kernel (1 or 3), stride, W and H of the input, block (images), base (offset of its gradient
// in the backward pattern's input), first (index of its first weight in the flat vector)
struct Layer {
    int64_t C, K, kernel, stride, H, W, block, base, first;
};

// nonzeros: ascending flat indices into [K, C, kernel, kernel].
static void forward_pattern(const int32_t *nonzeros, int64_t count, const int64_t *numbers,
                            int32_t *ptr, int32_t *off) {
    Layer l;
    std::memcpy(&l, numbers, sizeof l);
    const int64_t taps = l.kernel * l.kernel, row = l.C * taps;
    const int64_t shift = 1 - l.kernel / 2;  // a 1 x 1 kernel reads inside the border
    std::memset(ptr, 0, sizeof(int32_t) * (l.K + 1));
    for (int64_t p = 0; p < count; p++) {
        const int64_t i = nonzeros[p], c = i % row / taps, t = i % taps;
        ptr[i / row + 1]++;
        off[p] = (int32_t)(((c * (l.H + 2) + t / l.kernel + shift) * (l.W + 2) + t % l.kernel +
                            shift) * l.block);
    }
    for (int64_t k = 0; k < l.K; k++) ptr[k + 1] += ptr[k];
}

// For inputs at rows = row and columns = column modulo the stride: which entries of the output's
// gradient (with a border) reach them, by which weights. Several layers that read the same input
// share one pattern. Returns the number of entries.
static int64_t backward_pattern(int64_t layers, const int32_t *const *nonzeros,
                                const int64_t *counts, const int64_t *numbers, int64_t row,
                                int64_t column, int32_t *ptr, int32_t *off, int32_t *index) {
    const Layer *all = (const Layer *)numbers;
    const int64_t C = all[0].C;
    std::vector<int32_t> at(C + 1, 0);
    int64_t total = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t n = 0; n < layers; n++) {
            const Layer &l = all[n];
            const int64_t taps = l.kernel * l.kernel, size = l.C * taps, half = l.kernel / 2;
            const int64_t Ho = l.H / l.stride, Wo = l.W / l.stride;
            for (int64_t p = 0; p < counts[n]; p++) {
                const int64_t i = nonzeros[n][p], k = i / size, c = i % size / taps, t = i % taps;
                // Output y reads input stride·y + tap - half.
                const int64_t dy = row + half - t / l.kernel, dx = column + half - t % l.kernel;
                if ((dy % l.stride + l.stride) % l.stride || (dx % l.stride + l.stride) % l.stride)
                    continue;
                if (pass == 0) {
                    at[c + 1]++;
                    continue;
                }
                const int64_t y = (dy < 0 ? -1 : dy / l.stride) + 1;
                const int64_t x = (dx < 0 ? -1 : dx / l.stride) + 1;
                const int32_t to = at[c]++;
                off[to] = (int32_t)(l.base + ((k * (Ho + 2) + y) * (Wo + 2) + x) * l.block);
                index[to] = (int32_t)(l.first + p);
            }
        }
        if (pass == 0) {
            for (int64_t c = 0; c < C; c++) at[c + 1] += at[c];
            std::memcpy(ptr, at.data(), sizeof(int32_t) * (C + 1));
            total = at[C];
        }
    }
    return total;
}

// w[i] = f0[off[i]]: weights in a backward pattern's order. n: count
static void gather(const Op &op) {
    for (int64_t i = 0; i < op.n[0]; i++) op.w[i] = op.f[0][op.off[i]];
}

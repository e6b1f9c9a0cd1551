// A network's program, run; and patterns, built. Plain C interface for ctypes.
#ifdef _OPENMP
#include <omp.h>
#endif
#include "conv.h"
#include "pattern.h"
#include "pointwise.h"

// What works on one block of images by itself; the rest needs all of them.
static inline bool local(const Op &op) {
    return op.kind <= WGRAD || op.kind == NORM_RELU || (op.kind >= NORM_BACK && op.kind <= MAXPOOL_BACK);
}

template <class S> static void run_local(const Op &op, const Call &c, int block, int thread) {
    switch (op.kind) {
        case IMAGES: return images<S>(op, c, block, thread);
        case CONV: return conv<S>(op, c, block, thread);
        case WGRAD: return wgrad<S>(op, c, block, thread);
        case NORM_RELU: return norm_relu<S>(op, c, block, thread);
        case NORM_BACK: return norm_back<S>(op, c, block, thread);
        case DOT: return dot<S>(op, c, block, thread);
        case POOL: return pool<S>(op, c, block, thread);
        case POOL_BACK: return pool_back<S>(op, c, block, thread);
        case MAXPOOL: return maxpool<S>(op, c, block, thread);
        default: return maxpool_back<S>(op, c, block, thread);
    }
}

static void run_whole(const Op &op, const Call &c) {
    switch (op.kind) {
        case COEF_TRAIN: return coefficients_train(op, c);
        case COEF_EVAL: return coefficients_eval(op, c);
        case COEF_BACK: return coefficients_back(op, c);
        case WGRAD_SUM: return wgrad_sum(op, c);
        default: return gather(op);
    }
}

// Between two operations that need all blocks, a block goes through everything before the next one
// begins: what one operation leaves, the next one finds in the cache. One thread works on a block
// from beginning to end, and what blocks leave is added in their order: the bits do not depend on
// the number of threads.
template <class S> static void run(const Op *ops, int64_t count, const Call &c) {
    for (int64_t i = 0; i < count;) {
        if (!local(ops[i])) {
            run_whole(ops[i++], c);
            continue;
        }
        int64_t end = i;
        while (end < count && local(ops[end])) end++;
#pragma omp parallel for num_threads(c.threads) schedule(static) if (c.threads > 1)
        for (int block = 0; block < c.blocks; block++) {
#ifdef _OPENMP
            const int thread = omp_get_thread_num();
#else
            const int thread = 0;
#endif
            for (int64_t k = i; k < end; k++) run_local<S>(ops[k], c, block, thread);
        }
        i = end;
    }
}

extern "C" {
int engine_lanes() { return L; }
int engine_op_size() { return (int)sizeof(Op); }

// storage: 0 float32, 1 bfloat16
void engine_run(const Op *ops, int64_t count, int storage, const Call *c) {
    if (storage)
        run<bf16>(ops, count, *c);
    else
        run<float>(ops, count, *c);
}

void engine_forward_pattern(const int32_t *nonzeros, int64_t count, const int64_t *layer,
                            int32_t *ptr, int32_t *off) {
    forward_pattern(nonzeros, count, layer, ptr, off);
}

int64_t engine_backward_pattern(int64_t layers, const int32_t *const *nonzeros,
                                const int64_t *counts, const int64_t *layer, int64_t row,
                                int64_t column, int32_t *ptr, int32_t *off, int32_t *index) {
    return backward_pattern(layers, nonzeros, counts, layer, row, column, ptr, off, index);
}
}

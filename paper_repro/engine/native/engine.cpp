// A network's program, run; and patterns, built. Plain C interface for ctypes.
#ifdef _OPENMP
#include <omp.h>
#endif
#include "conv.h"
#include "pattern.h"
#include "pointwise.h"

template <class S> static void run(const Op *ops, int64_t count, const Call &c) {
    for (int64_t i = 0; i < count; i++) {
        const Op &op = ops[i];
        switch (op.kind) {
            case IMAGES: images<S>(op, c); break;
            case CONV: conv<S>(op, c); break;
            case WGRAD: wgrad<S>(op, c); break;
            case COEF_TRAIN: coefficients_train(op, c); break;
            case COEF_EVAL: coefficients_eval(op, c); break;
            case NORM_RELU: norm_relu<S>(op, c); break;
            case COEF_BACK: coefficients_back(op, c); break;
            case NORM_BACK: norm_back<S>(op, c); break;
            case DOT: dot<S>(op, c); break;
            case POOL: pool<S>(op, c); break;
            case POOL_BACK: pool_back<S>(op, c); break;
            case MAXPOOL: maxpool<S>(op, c); break;
            case MAXPOOL_BACK: maxpool_back<S>(op, c); break;
            case GATHER: gather(op); break;
        }
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

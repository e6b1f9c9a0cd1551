// One operation of a network's program. Python fills these in (program.py); the fields that an
// operation reads are named where it is defined.
#pragma once
#include <cstdint>

struct Op {
    int64_t kind;
    void *x, *o, *a, *y, *r;                      // activations
    const int32_t *ptr, *off;                     // a pattern: rows and offsets of its weights
    float *w, *stats;                             // weights; partial sums
    float *f[10];                                 // vectors, one entry a channel
    int64_t n[20];                                // sizes and strides, in elements
};

// What is the same for all operations of a call.
struct Call {
    int batch;     // images
    int blocks;    // of BLOCK images, the last one perhaps incomplete
    int threads;
    float momentum;  // of the running statistics; 0 leaves them as they are
    float eps;
};

enum Kind : int64_t {
    IMAGES, CONV, WGRAD, COEF_TRAIN, COEF_EVAL, NORM_RELU, COEF_BACK, NORM_BACK, DOT, POOL,
    POOL_BACK, MAXPOOL, MAXPOOL_BACK, GATHER, WGRAD_SUM
};

#pragma once
#include "cuda/kernel.cuh"

namespace hb::cuda {

// y[b, c, r] = x[b, r, c] (shape.cu). Both sides are read and written in rows.
void transpose_matrices(void* y, const void* x, DType dtype, int64_t batch, int64_t rows,
                        int64_t columns, void* stream);

}  // namespace hb::cuda

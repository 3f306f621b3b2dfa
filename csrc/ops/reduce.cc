// Reductions over any set of axes: sum, product, maximum, minimum; any and all are maximum and
// minimum of truth values. Attribute `axes`: sorted axes of the input; the output holds the others.
//
// Neighbouring axes of one kind are merged. Then either the innermost one is reduced (rows of
// `width` numbers to one number each) or it is kept (rows of `width` sums, accumulated row after
// row). Narrow kept rows are read k at a time as one row of k * width, folded at the end.
//
// Sums are taken in a tree of radix 32 over blocks that are themselves summed in several lanes, so
// the rounding error grows with the logarithm of the length. Long reductions are cut into chunks of
// a size that depends on the shape alone; chunks run in parallel and are combined in order: the
// result is the same for every number of threads. float16 and bfloat16 accumulate in float.
#include "core/kernel.h"
#include "simd/half.h"
#include "simd/lanes.h"
#include "simd/math.h"

HB_KERNELS_BEGIN

constexpr int64_t kChunk = 1 << 16;  // elements of a chunk
constexpr int64_t kTask = 1 << 15;   // elements that a task should have at least
constexpr int64_t kBlock = 1024;     // elements summed in lanes
constexpr int64_t kRadix = 32, kLevels = 6;
constexpr int64_t kMaxWidth = 512;  // columns of one task
constexpr int64_t kNarrow = 256, kFolded = kMaxWidth;

template <class T>
struct AccumulatorOf {
  typedef T type;
};
template <>
struct AccumulatorOf<f16> {
  typedef float type;
};
template <>
struct AccumulatorOf<bf16> {
  typedef float type;
};

template <class A>
constexpr bool kIsFloat = A(0.5) != A(0);
template <class A>
A lowest() {
  if constexpr (kIsFloat<A>)
    return A(-__builtin_inf());
  else
    return A(-1) < A(0) ? A(uint64_t(1) << (sizeof(A) * 8 - 1)) : A(0);
}
template <class A>
A highest() {
  if constexpr (kIsFloat<A>)
    return A(__builtin_inf());
  else
    return A(~lowest<A>());
}

// Each works on numbers and on vectors. Signed sums and products run as unsigned: they wrap.
template <class A>
struct Sum {
  static A identity() { return 0; }
  template <class V>
  static HB_INLINE V apply(V a, V b) {
    return V(a + b);
  }
};
template <class A>
struct Product {
  static A identity() { return 1; }
  template <class V>
  static HB_INLINE V apply(V a, V b) {
    return V(a * b);
  }
};
template <class A>
struct Maximum {  // NaN if any is
  static A identity() { return lowest<A>(); }
  template <class V>
  static HB_INLINE V apply(V a, V b) {
    return larger(a, b);
  }
};
template <class A>
struct Minimum {
  static A identity() { return highest<A>(); }
  template <class V>
  static HB_INLINE V apply(V a, V b) {
    return smaller(a, b);
  }
};

template <class A>
struct All : Minimum<A> {  // of truth values
  static A identity() { return 1; }
};

// Dimensions walked in row-major order, with the input's strides.
struct Walk {
  int rank = 0;
  int64_t size[kMaxRank], stride[kMaxRank];
  int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= size[d];
    return n;
  }
  int64_t offset(int64_t index) const {
    if (rank == 0) return 0;
    int64_t sum = 0;
    for (int d = rank - 1; d > 0; --d) {
      sum += index % size[d] * stride[d];
      index /= size[d];
    }
    return sum + index * stride[0];
  }
  void add(int64_t n, int64_t s) {
    size[rank] = n;
    stride[rank++] = s;
  }
};

template <class T, template <class> class OpOf>
class Reduce {
  typedef typename AccumulatorOf<T>::type A;
  typedef OpOf<A> Op;

 public:
  explicit Reduce(Prepare& p) {
    const TensorSpec& in = p.inputs[0];
    const IntList axes = attr_ints(*p.attrs, "axes");
    bool reduced[kMaxRank] = {};
    for (int64_t i = 0; i < axes.size; ++i) reduced[axes.data[i]] = true;
    // Merged dimensions, innermost first.
    int64_t sizes[kMaxRank];
    bool kinds[kMaxRank];
    int rank = 0;
    for (int d = in.rank - 1; d >= 0; --d) {
      if (in.shape[d] == 1) continue;
      if (rank > 0 && kinds[rank - 1] == reduced[d]) {
        sizes[rank - 1] *= in.shape[d];
      } else {
        sizes[rank] = in.shape[d];
        kinds[rank++] = reduced[d];
      }
    }
    inner_reduced_ = rank == 0 || kinds[0];
    width_ = rank == 0 ? 1 : sizes[0];
    int64_t stride = num_elements(in);
    for (int d = rank - 1; d > 0; --d) {
      stride = sizes[d] == 0 ? 0 : stride / sizes[d];
      (kinds[d] ? rows_ : kept_).add(sizes[d], stride);
    }
    num_outputs_ = num_elements(p.outputs[0]);
    num_reduced_ = num_outputs_ == 0 ? 0 : num_elements(in) / num_outputs_;
    if (num_outputs_ == 0 || num_reduced_ == 0) return;
    if (inner_reduced_) {
      plan_rows();
    } else {
      plan_columns();
    }
    p.scratch_bytes = num_chunks_ > 1 ? size_t(num_chunks_ * num_outputs_) * sizeof(A) : 0;
  }

  void run(const Call& call) const {
    const T* x = (const T*)call.inputs[0];
    T* y = (T*)call.outputs[0];
    if (num_outputs_ == 0) return;
    if (num_reduced_ == 0) {
      for (int64_t i = 0; i < num_outputs_; ++i) narrow(Op::identity(), y[i]);
      return;
    }
    A* partial = (A*)call.scratch;  // [num_chunks, num_outputs]
    const bool whole = num_chunks_ == 1;
    if (inner_reduced_) {
      const int64_t groups = (num_outputs_ + group_ - 1) / group_;
      parallel_for(groups * num_chunks_, [&](int64_t task, int) {
        const int64_t first = task / num_chunks_ * group_, chunk = task % num_chunks_;
        for (int64_t o = first; o < first + group_ && o < num_outputs_; ++o) {
          const A sum = reduce_rows(x + kept_.offset(o), chunk);
          if (whole)
            narrow(sum, y[o]);
          else
            partial[chunk * num_outputs_ + o] = sum;
        }
      });
    } else {
      const int64_t columns = width_ / fold_;  // of the output
      const int64_t blocks = fold_ > 1 ? 1 : (columns + kMaxWidth - 1) / kMaxWidth;
      const int64_t kept = kept_.count();
      parallel_for(kept * blocks * num_chunks_, [&](int64_t task, int) {
        const int64_t chunk = task % num_chunks_, block = task / num_chunks_ % blocks;
        const int64_t k = task / num_chunks_ / blocks, begin = block * kMaxWidth;
        const int64_t n = width_ - begin < kMaxWidth ? width_ - begin : kMaxWidth;
        A sums[kMaxWidth];
        reduce_columns(x + kept_.offset(k) + begin, n, chunk, sums);
        for (int64_t j = 1; j < fold_; ++j)
          for (int64_t c = 0; c < columns; ++c) sums[c] = Op::apply(sums[c], sums[j * columns + c]);
        const int64_t count = fold_ > 1 ? columns : n, at = k * columns + begin;
        for (int64_t c = 0; c < count; ++c) {
          if (whole)
            narrow(sums[c], y[at + c]);
          else
            partial[chunk * num_outputs_ + at + c] = sums[c];
        }
      });
    }
    if (whole) return;
    const int64_t group = kTask / num_chunks_ + 1;
    parallel_for((num_outputs_ + group - 1) / group, [&](int64_t task, int) {
      for (int64_t o = task * group; o < (task + 1) * group && o < num_outputs_; ++o) {
        Tree tree;
        for (int64_t c = 0; c < num_chunks_; ++c) tree.add(partial[c * num_outputs_ + o]);
        narrow(tree.total(), y[o]);
      }
    });
  }

 private:
  // Sum of sums of ... of kRadix terms.
  struct Tree {
    A level[kLevels];
    int count[kLevels];
    Tree() {
      for (int i = 0; i < kLevels; ++i) {
        level[i] = Op::identity();
        count[i] = 0;
      }
    }
    void add(A x) {
      level[0] = Op::apply(level[0], x);
      for (int i = 0; i + 1 < kLevels && ++count[i] == kRadix; ++i) {
        level[i + 1] = Op::apply(level[i + 1], level[i]);
        level[i] = Op::identity();
        count[i] = 0;
      }
    }
    A total() const {
      A sum = level[0];
      for (int i = 1; i < kLevels; ++i) sum = Op::apply(sum, level[i]);
      return sum;
    }
  };

  void plan_rows() {
    const int64_t rows = rows_.count();
    pieces_ = (width_ + kChunk - 1) / kChunk;  // of one row
    rows_per_chunk_ = pieces_ > 1 ? 1 : kChunk / width_;
    num_chunks_ = pieces_ > 1 ? rows * pieces_ : (rows + rows_per_chunk_ - 1) / rows_per_chunk_;
    group_ = num_chunks_ > 1 ? 1 : (kTask + num_reduced_ - 1) / num_reduced_;
  }

  void plan_columns() {
    if (rows_.rank == 0) rows_.add(1, 0);  // only axes of size 1 are reduced
    // The innermost dimension of rows_ lies right outside of the columns.
    int64_t& last = rows_.size[rows_.rank - 1];
    int64_t& last_stride = rows_.stride[rows_.rank - 1];
    fold_ = 1;
    tail_rows_ = 0;
    if (width_ < kNarrow) {
      const int64_t k = kFolded / width_;
      if (last >= 2 * k) {
        fold_ = k;
        tail_rows_ = last % k;
        tail_offset_ = last / k * k * width_;
        last /= k;
        last_stride *= k;
        width_ *= k;
      }
    }
    const int64_t block = width_ < kMaxWidth ? width_ : kMaxWidth;
    rows_per_chunk_ = kChunk / block;
    num_chunks_ = (rows_.count() + rows_per_chunk_ - 1) / rows_per_chunk_;
  }

  __attribute__((noinline)) A reduce_rows(const T* x, int64_t chunk) const {
    if (pieces_ > 1) {
      const int64_t begin = chunk % pieces_ * kChunk;
      const int64_t n = width_ - begin < kChunk ? width_ - begin : kChunk;
      return reduce_row(x + rows_.offset(chunk / pieces_) + begin, n);
    }
    const int64_t rows = rows_.count(), begin = chunk * rows_per_chunk_;
    const int64_t end = begin + rows_per_chunk_ < rows ? begin + rows_per_chunk_ : rows;
    if (end - begin == 1) return reduce_row(x + rows_.offset(begin), width_);
    Tree tree;
    for (int64_t r = begin; r < end; ++r) tree.add(reduce_row(x + rows_.offset(r), width_));
    return tree.total();
  }

  static A reduce_row(const T* x, int64_t n) {
    if (n <= kBlock) return reduce_block(x, n);
    Tree tree;
    for (int64_t i = 0; i < n; i += kBlock)
      tree.add(reduce_block(x + i, n - i < kBlock ? n - i : kBlock));
    return tree.total();
  }

  // Up to kBlock neighbours, in four vectors of lanes.
  static __attribute__((noinline)) A reduce_block(const T* x, int64_t n) {
    constexpr int L = kLanes<A>;
    A sum = Op::identity();
    int64_t i = 0;
    if (n >= L) {
      Vec<A> s0 = splat<A>(Op::identity()), s1 = s0, s2 = s0, s3 = s0;
      for (; i + 4 * L <= n; i += 4 * L) {
        s0 = Op::apply(s0, load_as<A>(x + i));
        s1 = Op::apply(s1, load_as<A>(x + i + L));
        s2 = Op::apply(s2, load_as<A>(x + i + 2 * L));
        s3 = Op::apply(s3, load_as<A>(x + i + 3 * L));
      }
      for (; i + L <= n; i += L) s0 = Op::apply(s0, load_as<A>(x + i));
      sum = fold_lanes<L, A>(Op::apply(Op::apply(s0, s1), Op::apply(s2, s3)),
                             [](auto a, auto b)
                                 __attribute__((always_inline)) { return Op::apply(a, b); });
    }
    for (; i < n; ++i) sum = Op::apply(sum, A(widen(x[i])));
    return sum;
  }

  // sums[c] = reduction of column c over the rows of a chunk.
  __attribute__((noinline)) void reduce_columns(const T* x, int64_t n, int64_t chunk,
                                                A* sums) const {
    A levels[kLevels][kMaxWidth];
    int count[kLevels] = {};
    int used = 1;
    for (int64_t c = 0; c < n; ++c) levels[0][c] = Op::identity();
    const int64_t rows = rows_.count(), begin = chunk * rows_per_chunk_;
    const int64_t end = begin + rows_per_chunk_ < rows ? begin + rows_per_chunk_ : rows;
    for (int64_t r = begin; r < end;) {
      const T* row[8];
      const int64_t some = end - r < 8 ? end - r : 8;
      for (int64_t i = 0; i < some; ++i) row[i] = x + rows_.offset(r + i);
      if (some == 8) {
        add_eight(row, n, levels[0]);
      } else {
        for (int64_t i = 0; i < some; ++i) add_row(row[i], n, levels[0]);
      }
      r += some;
      // Eight rows are one term of the leaf; full levels move up.
      for (int i = 0; i + 1 < kLevels && ++count[i] == (i == 0 ? kRadix / 8 : kRadix); ++i) {
        if (i + 1 == used) {
          for (int64_t c = 0; c < n; ++c) levels[used][c] = Op::identity();
          ++used;
        }
        for (int64_t c = 0; c < n; ++c) {
          levels[i + 1][c] = Op::apply(levels[i + 1][c], levels[i][c]);
          levels[i][c] = Op::identity();
        }
        count[i] = 0;
      }
    }
    if (chunk == 0 && tail_rows_ > 0) {  // rows that were left when reading `fold` at a time
      Walk outer = rows_;
      --outer.rank;
      const int64_t others = outer.count();
      for (int64_t r = 0; r < others; ++r)
        add_row(x + outer.offset(r) + tail_offset_, tail_rows_ * (width_ / fold_), levels[0]);
    }
    for (int64_t c = 0; c < n; ++c) sums[c] = levels[0][c];
    for (int i = 1; i < used; ++i)
      for (int64_t c = 0; c < n; ++c) sums[c] = Op::apply(sums[c], levels[i][c]);
  }
  static void add_row(const T* row, int64_t n, A* sums) {
    int64_t c = 0;
    for (; c + kLanes<A> <= n; c += kLanes<A>)
      store(sums + c, Op::apply(load(sums + c), load_as<A>(row + c)));
    for (; c < n; ++c) sums[c] = Op::apply(sums[c], A(widen(row[c])));
  }
  static void add_eight(const T* const* row, int64_t n, A* sums) {
    int64_t c = 0;
    for (; c + kLanes<A> <= n; c += kLanes<A>) {
      const Vec<A> a = Op::apply(load_as<A>(row[0] + c), load_as<A>(row[1] + c));
      const Vec<A> b = Op::apply(load_as<A>(row[2] + c), load_as<A>(row[3] + c));
      const Vec<A> d = Op::apply(load_as<A>(row[4] + c), load_as<A>(row[5] + c));
      const Vec<A> e = Op::apply(load_as<A>(row[6] + c), load_as<A>(row[7] + c));
      store(sums + c, Op::apply(load(sums + c), Op::apply(Op::apply(a, b), Op::apply(d, e))));
    }
    for (; c < n; ++c)
      for (int i = 0; i < 8; ++i) sums[c] = Op::apply(sums[c], A(widen(row[i][c])));
  }

  Walk kept_, rows_;  // outside of the innermost dimension
  bool inner_reduced_;
  int64_t width_, num_outputs_, num_reduced_, num_chunks_ = 1;
  int64_t pieces_ = 1, rows_per_chunk_ = 1, group_ = 1;  // rows
  int64_t fold_ = 1, tail_rows_ = 0, tail_offset_ = 0;   // columns
};

#define HB_REDUCE(T, name, dtype)              \
  typedef Reduce<T, Maximum> Max_##name;       \
  typedef Reduce<T, Minimum> Min_##name;       \
  HB_CPU_KERNEL(reduce_max, Max_##name, dtype) \
  HB_CPU_KERNEL(reduce_min, Min_##name, dtype)
#define HB_REDUCE_SUM(T, name, dtypes)          \
  typedef Reduce<T, Sum> Sum_##name;            \
  typedef Reduce<T, Product> Product_##name;    \
  HB_CPU_KERNEL(reduce_sum, Sum_##name, dtypes) \
  HB_CPU_KERNEL(reduce_prod, Product_##name, dtypes)

HB_REDUCE(float, f32, kF32)
HB_REDUCE(double, f64, kF64)
HB_REDUCE(f16, f16, kF16)
HB_REDUCE(bf16, bf16, kBF16)
HB_REDUCE(int8_t, i8, kI8)
HB_REDUCE(int16_t, i16, kI16)
HB_REDUCE(int32_t, i32, kI32)
HB_REDUCE(int64_t, i64, kI64)
HB_REDUCE(uint8_t, u8, kU8 | kBool)
HB_REDUCE(uint16_t, u16, kU16)
HB_REDUCE(uint32_t, u32, kU32)
HB_REDUCE(uint64_t, u64, kU64)
HB_REDUCE_SUM(float, f32, kF32)
HB_REDUCE_SUM(double, f64, kF64)
HB_REDUCE_SUM(f16, f16, kF16)
HB_REDUCE_SUM(bf16, bf16, kBF16)
HB_REDUCE_SUM(uint8_t, x8, kI8 | kU8)
HB_REDUCE_SUM(uint16_t, x16, kI16 | kU16)
HB_REDUCE_SUM(uint32_t, x32, kI32 | kU32)
HB_REDUCE_SUM(uint64_t, x64, kI64 | kU64)
typedef Reduce<uint8_t, All> All_bool;
HB_CPU_KERNEL(reduce_any, Max_u8, kBool)
HB_CPU_KERNEL(reduce_all, All_bool, kBool)

HB_KERNELS_END

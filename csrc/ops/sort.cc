// Order along the last axis: sort, argsort, top_k and searchsorted. Rows are independent and are
// split over threads. Sorting is stable and puts NaN last: by radix where rows are long (keys that
// order like the values, 11 bits at a time), else by merging (runs of 16 by insertion).
// top_k keeps the k best of a row in order; NaN counts as largest, equal values keep their order.
#include "ops/element.h"
#include "ops/parameters.h"

HB_KERNELS_BEGIN

template <class T>
HB_INLINE bool before(T a, T b) {
  const auto x = widened(a), y = widened(b);
  return x < y || (y != y && x == x);
}

template <class T>
struct Keyed {
  T value;
  int32_t index;
};
template <class T>
HB_INLINE bool before(Keyed<T> a, Keyed<T> b) {
  return before(a.value, b.value);
}

// Sorts v[0, n) with the help of tmp[0, n); returns which of the two holds the result.
template <class T>
static T* merge_sort(T* v, T* tmp, int64_t n) {
  constexpr int64_t kRun = 16;
  for (int64_t begin = 0; begin < n; begin += kRun) {
    const int64_t end = min_of(n, begin + kRun);
    for (int64_t i = begin + 1; i < end; ++i) {
      const T x = v[i];
      int64_t j = i;
      for (; j > begin && before(x, v[j - 1]); --j) v[j] = v[j - 1];
      v[j] = x;
    }
  }
  for (int64_t width = kRun; width < n; width *= 2) {
    for (int64_t begin = 0; begin < n; begin += 2 * width) {
      const int64_t middle = min_of(n, begin + width), end = min_of(n, begin + 2 * width);
      int64_t a = begin, b = middle;
      for (int64_t k = begin; k < end; ++k) {
        tmp[k] = b < end && (a == middle || before(v[b], v[a])) ? v[b++] : v[a++];
      }
    }
    T* t = v;
    v = tmp;
    tmp = t;
  }
  return v;
}

// Unsigned numbers that order like the values: -0 and 0 are one, NaN is the largest.
template <int kBytes>
struct UnsignedOf;
template <>
struct UnsignedOf<1> {
  typedef uint8_t type;
};
template <>
struct UnsignedOf<2> {
  typedef uint16_t type;
};
template <>
struct UnsignedOf<4> {
  typedef uint32_t type;
};
template <>
struct UnsignedOf<8> {
  typedef uint64_t type;
};
template <class T>
using KeyOf = typename UnsignedOf<sizeof(T)>::type;
template <class T>
constexpr bool kIsFloat = false;
template <>
constexpr bool kIsFloat<float> = true;
template <>
constexpr bool kIsFloat<double> = true;
template <>
constexpr bool kIsFloat<f16> = true;
template <>
constexpr bool kIsFloat<bf16> = true;
template <class T>
constexpr KeyOf<T> kSign = KeyOf<T>(KeyOf<T>(1) << (8 * sizeof(T) - 1));

template <class T>
HB_INLINE KeyOf<T> key_of(T x) {
  KeyOf<T> bits;
  memcpy(&bits, &x, sizeof bits);
  if constexpr (kIsFloat<T>) {
    const auto v = widened(x);
    if (v != v) return KeyOf<T>(~KeyOf<T>(0));
    if (v == 0) bits = 0;
    return KeyOf<T>(bits & kSign<T> ? ~bits : bits | kSign<T>);
  } else {
    return T(-1) < T(1) ? KeyOf<T>(bits ^ kSign<T>) : bits;
  }
}
template <class T>
HB_INLINE T value_of(KeyOf<T> key) {
  KeyOf<T> bits = key;
  if constexpr (kIsFloat<T>) {
    bits = KeyOf<T>(key & kSign<T> ? key ^ kSign<T> : ~key);
  } else if (T(-1) < T(1)) {
    bits = KeyOf<T>(key ^ kSign<T>);
  }
  T x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

template <class K>
struct KeyedPlace {
  K key;
  int32_t index;
};
template <class K>
HB_INLINE K radix_key(KeyedPlace<K> x) {
  return x.key;
}
template <class K>
HB_INLINE K radix_key(K x) {
  return x;
}

constexpr int64_t kRadixRow = 256;  // rows from here on are sorted by radix

// Sorts v[0, n) by least significant digits first; returns which of v and tmp holds the result.
template <class K, class E>
static E* radix_sort(E* v, E* tmp, int64_t n) {
  constexpr int kDigit = sizeof(K) >= 4 ? 11 : 8, kBuckets = 1 << kDigit;
  constexpr int kPasses = (8 * int(sizeof(K)) + kDigit - 1) / kDigit;
  uint32_t counts[kPasses][kBuckets];
  memset(counts, 0, sizeof counts);
  for (int64_t i = 0; i < n; ++i) {
    const K key = radix_key<K>(v[i]);
    for (int p = 0; p < kPasses; ++p) ++counts[p][key >> (p * kDigit) & (kBuckets - 1)];
  }
  for (int p = 0; p < kPasses; ++p) {
    uint32_t* count = counts[p];
    const int shift = p * kDigit;
    if (count[radix_key<K>(v[0]) >> shift & (kBuckets - 1)] == uint32_t(n)) continue;
    uint32_t start = 0;
    for (int b = 0; b < kBuckets; ++b) {
      const uint32_t here = count[b];
      count[b] = start;
      start += here;
    }
    for (int64_t i = 0; i < n; ++i) {
      tmp[count[radix_key<K>(v[i]) >> shift & (kBuckets - 1)]++] = v[i];
    }
    E* t = v;
    v = tmp;
    tmp = t;
  }
  return v;
}

struct Rows {
  int64_t rows, n;
  DType dtype;
  explicit Rows(const TensorSpec& x) : dtype(x.dtype) {
    if (x.rank < 1) fail("sort: at least one axis");
    n = x.shape[x.rank - 1];
    rows = n == 0 ? 0 : num_elements(x) / n;
    if (n > INT32_MAX) fail("sort: at most 2^31 - 1 elements along the axis");
  }
  template <class F>
  void each(const F& f) const {  // f(row, worker)
    const int64_t per_task = 1024 / (n + 1) + 1;
    parallel_for((rows + per_task - 1) / per_task, [&](int64_t task, int worker) {
      const int64_t end = min_of(rows, (task + 1) * per_task);
      for (int64_t r = task * per_task; r < end; ++r) f(r, worker);
    });
  }
};

struct Sort {
  Rows rows;
  explicit Sort(Prepare& p) : rows(p.inputs[0]) {
    p.scratch_bytes = size_t(num_threads()) * size_t(rows.n) * 2 * item_bytes(rows.dtype);
  }
  void run(const Call& c) const {
    with_type(rows.dtype, [&]<class T>(T) {
      const T* x = static_cast<const T*>(c.inputs[0]);
      T* y = static_cast<T*>(c.outputs[0]);
      rows.each([&](int64_t r, int worker) {
        T* to = y + r * rows.n;
        const T* row = x + r * rows.n;
        if (rows.n >= kRadixRow) {
          typedef KeyOf<T> K;
          K* keys = static_cast<K*>(c.scratch) + worker * 2 * rows.n;
          for (int64_t i = 0; i < rows.n; ++i) keys[i] = key_of(row[i]);
          const K* ordered = radix_sort<K>(keys, keys + rows.n, rows.n);
          for (int64_t i = 0; i < rows.n; ++i) to[i] = value_of<T>(ordered[i]);
          return;
        }
        memcpy(to, row, size_t(rows.n) * sizeof(T));
        T* sorted = merge_sort(to, static_cast<T*>(c.scratch) + worker * 2 * rows.n, rows.n);
        if (sorted != to) memcpy(to, sorted, size_t(rows.n) * sizeof(T));
      });
    });
  }
};
HB_CPU_KERNEL(sort, Sort, kAllDTypes)

// output: int32.
struct Argsort {
  Rows rows;
  explicit Argsort(Prepare& p) : rows(p.inputs[0]) {
    p.scratch_bytes = size_t(num_threads()) * size_t(rows.n) * 2 * sizeof(Keyed<int64_t>);
  }
  void run(const Call& c) const {
    with_type(rows.dtype, [&]<class T>(T) {
      const T* x = static_cast<const T*>(c.inputs[0]);
      int32_t* y = static_cast<int32_t*>(c.outputs[0]);
      rows.each([&](int64_t r, int worker) {
        if (rows.n >= kRadixRow) {
          typedef KeyOf<T> K;
          KeyedPlace<K>* v = static_cast<KeyedPlace<K>*>(c.scratch) + worker * 2 * rows.n;
          for (int64_t i = 0; i < rows.n; ++i) v[i] = {key_of(x[r * rows.n + i]), int32_t(i)};
          const KeyedPlace<K>* ordered = radix_sort<K>(v, v + rows.n, rows.n);
          for (int64_t i = 0; i < rows.n; ++i) y[r * rows.n + i] = ordered[i].index;
          return;
        }
        Keyed<T>* v = static_cast<Keyed<T>*>(c.scratch) + worker * 2 * rows.n;
        for (int64_t i = 0; i < rows.n; ++i) v[i] = {x[r * rows.n + i], int32_t(i)};
        const Keyed<T>* sorted = merge_sort(v, v + rows.n, rows.n);
        for (int64_t i = 0; i < rows.n; ++i) y[r * rows.n + i] = sorted[i].index;
      });
    });
  }
};
HB_CPU_KERNEL(argsort, Argsort, kAllDTypes)

// outputs: values and int32 indices of the k largest, in descending order.
struct TopK {
  static constexpr int64_t kInsertion = 64;  // up to this k by insertion, else a full sort
  Rows rows;
  int64_t k;
  explicit TopK(Prepare& p) : rows(p.inputs[0]), k(attr_int(*p.attrs, "k")) {
    if (k > rows.n) fail("top_k: k = %lld of %lld elements", (long long)k, (long long)rows.n);
    p.scratch_bytes = size_t(num_threads()) * size_t(rows.n) * 2 * sizeof(Keyed<int64_t>);
  }
  void run(const Call& c) const {
    with_type(rows.dtype, [&]<class T>(T) {
      const T* x = static_cast<const T*>(c.inputs[0]);
      T* values = static_cast<T*>(c.outputs[0]);
      int32_t* indices = static_cast<int32_t*>(c.outputs[1]);
      rows.each([&](int64_t r, int worker) {
        const T* row = x + r * rows.n;
        Keyed<T>* v = static_cast<Keyed<T>*>(c.scratch) + worker * 2 * rows.n;
        const Keyed<T>* best = k <= kInsertion ? insertion(row, v) : sorted(row, v);
        for (int64_t i = 0; i < k; ++i) {
          values[r * k + i] = best[i].value;
          indices[r * k + i] = best[i].index;
        }
      });
    });
  }

 private:
  template <class T>
  const Keyed<T>* insertion(const T* row, Keyed<T>* best) const {
    int64_t held = 0;
    for (int64_t i = 0; i < rows.n && k > 0; ++i) {
      if (held == k && !before(best[k - 1].value, row[i])) continue;
      if (held < k) ++held;
      int64_t j = held - 1;
      for (; j > 0 && before(best[j - 1].value, row[i]); --j) best[j] = best[j - 1];
      best[j] = {row[i], int32_t(i)};
    }
    return best;
  }
  // Sorted from the end of the row, so that equal values come out in order when read backwards.
  template <class T>
  const Keyed<T>* sorted(const T* row, Keyed<T>* v) const {
    const int64_t n = rows.n;
    for (int64_t i = 0; i < n; ++i) v[i] = {row[n - 1 - i], int32_t(n - 1 - i)};
    Keyed<T>* up = merge_sort(v, v + n, n);
    for (int64_t i = 0; i < n / 2; ++i) {
      const Keyed<T> t = up[i];
      up[i] = up[n - 1 - i];
      up[n - 1 - i] = t;
    }
    return up;
  }
};
HB_CPU_KERNEL(top_k, TopK, kAllDTypes)

struct SearchSorted : SearchParameters {
  using SearchParameters::SearchParameters;
  void run(const Call& c) const {
    constexpr int64_t kPerTask = 4096;
    with_type(dtype, [&]<class T>(T) {
      const T* sorted = static_cast<const T*>(c.inputs[0]);
      const T* values = static_cast<const T*>(c.inputs[1]);
      parallel_for((m + kPerTask - 1) / kPerTask, [&](int64_t task, int) {
        const int64_t end = min_of(m, (task + 1) * kPerTask);
        for (int64_t j = task * kPerTask; j < end; ++j) {
          int64_t low = 0, high = n;
          while (low < high) {
            const int64_t middle = (low + high) / 2;
            const bool up =
                right ? !before(values[j], sorted[middle]) : before(sorted[middle], values[j]);
            (up ? low : high) = up ? middle + 1 : middle;
          }
          if (wide) {
            static_cast<int64_t*>(c.outputs[0])[j] = low;
          } else {
            static_cast<int32_t*>(c.outputs[0])[j] = int32_t(low);
          }
        }
      });
    });
  }
};
HB_CPU_KERNEL(searchsorted, SearchSorted, kAllDTypes)

HB_KERNELS_END

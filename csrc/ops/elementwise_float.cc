// Floating-point functions of the tile engine that are vector code throughout.
#include "ops/elementwise.h"

namespace hb::HB_ISA {
namespace {

template <class T>
void add_arithmetic(ElementwiseTable& t) {
  typedef Vec<T> V;
  binary<T>(t, "add", [](V a, V b) { return a + b; });
  binary<T>(t, "subtract", [](V a, V b) { return a - b; });
  binary<T>(t, "multiply", [](V a, V b) { return a * b; });
  binary<T>(t, "divide", 3, [](V a, V b) { return a / b; });
  binary<T>(t, "maximum", [](V a, V b) { return vmax<T>(a, b); });
  binary<T>(t, "minimum", [](V a, V b) { return vmin<T>(a, b); });
  binary<T>(t, "heaviside", [](V a, V b) {
    const V step = a > T(0) ? splat<T>(T(1)) : V{};
    return a == T(0) ? b : (a != a ? a : step);
  });
  unary<T>(t, "negative", [](V a) { return -a; });
  unary<T>(t, "abs", [](V a) { return vabs<T>(a); });
  unary<T>(t, "sign", [](V a) {
    const V one = splat<T>(T(1)), sign = a > T(0) ? one : (a < T(0) ? -one : V{});
    return a != a ? a : sign;
  });
  unary<T>(t, "square", [](V a) { return a * a; });
  unary<T>(t, "sqrt", 4, [](V a) { return vsqrt(a); });
  unary<T>(t, "rsqrt", 6, [](V a) { return T(1) / vsqrt(a); });
  unary<T>(t, "reciprocal", 3, [](V a) { return T(1) / a; });
  unary<T>(t, "floor", [](V a) { return vfloor(a); });
  unary<T>(t, "ceil", [](V a) { return vceil(a); });
  unary<T>(t, "trunc", [](V a) { return vtrunc(a); });
  unary<T>(t, "round", [](V a) { return vround(a); });  // half to even
  test<T>(t, "isnan", [](V a) { return a != a; });
  test<T>(t, "isinf", [](V a) { return vabs<T>(a) == T(__builtin_inf()); });
  test<T>(t, "isfinite", [](V a) { return vabs<T>(a) < T(__builtin_inf()); });
  test<T>(t, "signbit", [](V a) { return (Vec<IntOf<T>>)a < 0; });
}

template <class T>
void add_exponentials(ElementwiseTable& t) {
  typedef Vec<T> V;
  unary<T>(t, "exp", 12, [](V a) { return vexp<T>(a); });
  unary<T>(t, "expm1", 14, [](V a) { return vexpm1<T>(a); });
  unary<T>(t, "log", 16, [](V a) { return vlog<T>(a); });
  unary<T>(t, "log2", 16, [](V a) { return vlog2<T>(a); });
  unary<T>(t, "log1p", 20, [](V a) { return vlog1p<T>(a); });
  unary<T>(t, "tanh", 20, [](V a) { return vtanh<T>(a); });
  unary<T>(t, "sigmoid", 18, [](V a) { return vsigmoid<T>(a); });
  unary<T>(t, "gelu_tanh", 26, [](V a) { return vgelu_tanh<T>(a); });
  unary<T>(t, "gelu_tanh_slope", 30, [](V a) { return vgelu_tanh_slope<T>(a); });
  // log(e^a + e^b) = max + log1p(e^-|a - b|); equal infinities stay as they are
  binary<T>(t, "logaddexp", 34, [](V a, V b) {
    const V top = vmax<T>(a, b);
    const V y = top + vlog1p<T>(vexp<T>(-vabs<T>(a - b)));
    return a == b ? a + T(0.6931471805599453) : y;
  });
}

}  // namespace

void add_float_functions(ElementwiseTable& table) {
  each<float, double>([&]<class T>() {
    add_arithmetic<T>(table);
    add_exponentials<T>(table);
    add_comparisons<T>(table);
  });
  unary<float>(table, "sin", 16, [](Vec<float> a) { return vsin(a); });
  unary<float>(table, "cos", 16, [](Vec<float> a) { return vcos(a); });
  unary<float>(table, "erf", 24, [](Vec<float> a) { return verf(a); });
  unary<float>(table, "gelu", 32, [](Vec<float> a) { return vgelu(a); });
  unary<float>(table, "gelu_slope", 34, [](Vec<float> a) { return vgelu_slope(a); });
}

}  // namespace hb::HB_ISA

// Whatever a file says about a node, inference and evaluation give a Status: no crash, no hang, no
// undefined behaviour (the sanitizer presets run this too).
#include <gmock/gmock.h>

#include <limits>
#include <random>

#include "core/ops/registry.h"
#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

class NodeMaker {
 public:
  explicit NodeMaker(uint32_t seed) : random_(seed) {}

  NodeCase Make(const OpDef& row) {
    NodeCase c = {.op = std::string(row.name), .opset = std::max(7, row.since_opset)};
    if (OneIn(2)) c.opset = 22;
    int inputs = row.inputs.max < 0 ? 3 : row.inputs.max;
    if (OneIn(3)) inputs = Below(inputs + 2);
    // Most nodes agree about one shape and one type, else nothing gets past the first check.
    shape_ = SomeShape();
    type_ = SomeType();
    for (int i = 0; i < inputs; ++i) c.inputs.push_back(OneIn(10) ? Tensor() : SomeTensor());
    for (const char* name : kIntNames) {
      if (OneIn(3)) c.attributes.Set(name, SomeInt());
    }
    for (const char* name : kIntsNames) {
      if (OneIn(2)) c.attributes.Set(name, SomeInts());
    }
    for (const char* name : kFloatNames) {
      if (OneIn(4)) c.attributes.Set(name, SomeFloat());
    }
    for (const auto& [name, values] : kStrings) {
      if (OneIn(2))
        c.attributes.Set(name, std::string(values[Below(static_cast<int>(values.size()))]));
    }
    return c;
  }
  int Below(int n) { return n <= 1 ? 0 : static_cast<int>(random_() % n); }

 private:
  static constexpr const char* kIntNames[] = {"axis",
                                              "keepdims",
                                              "group",
                                              "to",
                                              "block_size",
                                              "blocksize",
                                              "num_outputs",
                                              "p",
                                              "size",
                                              "k",
                                              "transA",
                                              "transB",
                                              "batch_dims",
                                              "ceil_mode",
                                              "hidden_size",
                                              "layout",
                                              "num_groups",
                                              "largest",
                                              "antialias",
                                              "num_scan_inputs",
                                              "count_include_pad",
                                              "exclude_outside",
                                              "training_mode",
                                              "start",
                                              "end",
                                              "upper",
                                              "select_last_index",
                                              "output_dtype",
                                              "noop_with_empty_axes",
                                              "allowzero",
                                              "onesided",
                                              "inverse",
                                              "align_corners",
                                              "offset_group",
                                              "output_height",
                                              "output_width",
                                              "sampling_ratio",
                                              "center_point_box",
                                              "sample_size",
                                              "dtype",
                                              "sorted",
                                              "ignore_index",
                                              "max_gram_length",
                                              "max_skip_count"};
  static constexpr const char* kIntsNames[] = {
      "axes",         "kernel_shape", "strides",        "pads",       "dilations", "perm",
      "split",        "output_shape", "output_padding", "starts",     "ends",      "shape",
      "pooled_shape", "ngram_counts", "ngram_indexes",  "pool_int64s"};
  static constexpr const char* kFloatNames[] = {"alpha", "beta", "epsilon", "min", "max", "clip"};
  const std::vector<std::pair<const char*, std::vector<const char*>>> kStrings = {
      {"auto_pad", {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"}},
      {"mode",
       {"constant", "reflect", "edge", "wrap", "nearest", "linear", "cubic", "CRD", "avg", "max",
        "TF", "IDF"}},
      {"padding_mode", {"zeros", "border", "reflection"}},
      {"pixel_format", {"RGB", "BGR", "Grayscale"}},
      {"direction", {"forward", "bidirectional", "LEFT", "RIGHT"}},
      {"equation", {"ij,jk->ik", "...i,...i->...", "ii", "i,j,k->kji", "->", "a,,b"}},
      {"coordinate_transformation_mode",
       {"align_corners", "half_pixel_symmetric", "tf_crop_and_resize", "asymmetric"}},
      {"keep_aspect_ratio_policy", {"not_larger", "not_smaller"}},
      {"reduction", {"add", "mul", "min", "max", "sum", "none"}},
  };

  bool OneIn(int n) { return Below(n) == 0; }
  int64_t SomeInt() {
    if (OneIn(12)) return OneIn(2) ? kMin : kMax;
    return Below(8) - 3;
  }
  std::vector<int64_t> SomeInts() {
    std::vector<int64_t> out(Below(5));
    for (int64_t& v : out) v = SomeInt();
    return out;
  }
  float SomeFloat() {
    constexpr float kSpecial[] = {0.0f, -1.0f, 1e30f, std::numeric_limits<float>::infinity(),
                                  std::numeric_limits<float>::quiet_NaN()};
    return OneIn(4) ? kSpecial[Below(5)] : static_cast<float>(Below(9)) / 2 - 1;
  }
  Shape SomeShape() {
    Shape out(OneIn(2) ? 3 : Below(5), 1);
    for (int64_t& d : out) d = OneIn(8) ? 0 : 1 + Below(3);
    return out;
  }
  DataType SomeType() {
    return OneIn(2) ? DataType::kF32 : kDataTypes[Below(static_cast<int>(kDataTypes.size()))].type;
  }
  Tensor SomeTensor() {
    Shape shape = OneIn(3) ? SomeShape() : shape_;
    DataType type = OneIn(3) ? SomeType() : type_;
    if (OneIn(4)) {  // a vector or scalar of indices
      type = OneIn(4) ? DataType::kI32 : DataType::kI64;
      shape = OneIn(3) ? Shape() : Shape{static_cast<int64_t>(Below(4))};
    }
    Tensor t = *Tensor::Create(type, shape);
    std::memset(t.mutable_raw(), 0, static_cast<size_t>(t.num_bytes()));
    DispatchType(type, [&](auto tag) {
      using T = decltype(tag);
      for (T& v : t.mutable_data<T>()) {
        if constexpr (std::is_same_v<T, int64_t>) {
          v = SomeInt();
        } else if constexpr (std::is_integral_v<T>) {
          v = static_cast<T>(Below(5) - 1);
        } else {
          v = T(SomeFloat());
        }
      }
    });
    return t;
  }

  std::mt19937 random_;
  Shape shape_;
  DataType type_ = DataType::kF32;
};

TEST(Robustness, EveryRowAnswersRandomNodesWithAStatus) {
  constexpr int kNodesPerRow = 400;
  int good = 0;
  for (const OpDef& row : AllOps()) {
    for (int i = 0; i < kNodesPerRow; ++i) {
      NodeMaker maker(static_cast<uint32_t>(i));
      const NodeCase c = maker.Make(row);
      const int outputs = 1 + maker.Below(row.outputs.max < 0 ? 3 : row.outputs.max);
      Graph graph = GraphOf(c, outputs);
      // Inference alone must cope with what it does not know, too.
      for (Value* v : graph.inputs()) {
        ValueType type = v->type();
        if (maker.Below(2) == 0) type.shape = std::nullopt;
        if (maker.Below(4) == 0) type.type = std::nullopt;
        v->set_type(std::move(type));
      }
      InferShapes(graph).IgnoreError();
      const absl::StatusOr<std::vector<Tensor>> got = Evaluate(c, outputs);
      good += got.ok();
      EXPECT_FALSE(absl::IsInternal(got.status())) << "seed " << i << ": " << got.status();
    }
  }
  EXPECT_GT(good, 1000);  // else the test makes nothing but nonsense
}

}  // namespace
}  // namespace halftone

// Text as numbers: TfIdfVectorizer over integer tokens.
#include <algorithm>
#include <array>
#include <map>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

using Tokens = std::vector<int64_t>;

struct Vocabulary {
  int64_t min_length = 1, max_length = 1, max_skip = 0;
  std::map<Tokens, int64_t> column;  // of each n-gram in the output
  int64_t columns = 0, longest = 0;
  std::vector<float> weights;  // one per column, or none
};

absl::Status ReadGrams(const InferContext& c, Vocabulary& v) {
  const Tokens pool = c.attributes().Ints("pool_int64s"),
               starts = c.attributes().Ints("ngram_counts");
  const Tokens indexes = c.attributes().Ints("ngram_indexes");
  constexpr int64_t kMaxColumns = int64_t{1} << 24;
  const int64_t pool_size = static_cast<int64_t>(pool.size());
  size_t gram = 0;
  for (size_t n = 1; n <= starts.size(); ++n) {
    const int64_t first = starts[n - 1], last = n < starts.size() ? starts[n] : pool_size;
    const int64_t length = static_cast<int64_t>(n);
    if (first < 0 || last < first || last > pool_size || (last - first) % length != 0) {
      return c.Error(
          absl::StrCat("ngram_counts are ", ToString(starts), " for a pool of ", pool_size));
    }
    if (first < last) v.longest = length;
    for (int64_t at = first; at < last; at += length, ++gram) {
      if (gram >= indexes.size()) return c.Error("has more n-grams than ngram_indexes");
      v.column[Tokens(pool.begin() + at, pool.begin() + at + length)] = indexes[gram];
    }
  }
  if (indexes.empty() || gram != indexes.size()) {
    return c.Error(absl::StrCat("has ", gram, " n-grams and ", indexes.size(), " ngram_indexes"));
  }
  for (const int64_t i : indexes) {
    if (i < 0 || i >= kMaxColumns) return c.Error(absl::StrCat("an n-gram has the index ", i));
    v.columns = std::max(v.columns, i + 1);
  }
  return absl::OkStatus();
}

absl::StatusOr<Vocabulary> ReadVocabulary(const InferContext& c) {
  const Attributes& a = c.attributes();
  Vocabulary v = {.min_length = a.Int("min_gram_length", 1),
                  .max_length = a.Int("max_gram_length", 1),
                  .max_skip = a.Int("max_skip_count", 0),
                  .weights = a.Get("weights", std::vector<float>())};
  const std::string mode = a.String("mode", "");
  if (mode != "TF" && mode != "IDF" && mode != "TFIDF") {
    return c.Error(absl::StrCat("mode is '", mode, "', want TF, IDF or TFIDF"));
  }
  if (a.Has("pool_strings")) return c.Error("has a pool of strings, want integers");
  // Beyond this the skips of a long text would take forever.
  constexpr int64_t kMaxSkip = 1024;
  if (v.min_length < 1 || v.max_length < v.min_length || v.max_skip < 0 || v.max_skip > kMaxSkip) {
    return c.Error(absl::StrCat("n-grams have lengths from ", v.min_length, " to ", v.max_length,
                                " with up to ", v.max_skip, " skips"));
  }
  HT_RETURN_IF_ERROR(ReadGrams(c, v));
  if (!v.weights.empty() && static_cast<int64_t>(v.weights.size()) < v.columns) {
    return c.Error(absl::StrCat("has ", v.weights.size(), " weights for ", v.columns, " columns"));
  }
  return v;
}

absl::Status InferTfIdf(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 1, 2));
  HT_ASSIGN_OR_RETURN(const Vocabulary v, ReadVocabulary(c));
  SymbolicShape shape = c.input(0).shape;
  if (shape.has_value()) shape->back() = Dim(v.columns);
  c.set_output(0, DataType::kF32, std::move(shape));
  return absl::OkStatus();
}

// Adds to each column how often its n-gram occurs in the row, with the same distance between all of
// its tokens. Single tokens have no distance and count once.
void CountGrams(const Vocabulary& v, absl::Span<const int64_t> row, float* counts) {
  const int64_t size = static_cast<int64_t>(row.size());
  for (int64_t n = v.min_length; n <= std::min({v.max_length, v.longest, size}); ++n) {
    for (int64_t distance = 1; distance <= (n == 1 ? 1 : v.max_skip + 1); ++distance) {
      for (int64_t start = 0; start + distance * (n - 1) < size; ++start) {
        Tokens gram;
        for (int64_t i = 0; i < n; ++i) gram.push_back(row[start + i * distance]);
        if (const auto it = v.column.find(gram); it != v.column.end()) counts[it->second] += 1;
      }
    }
  }
}

absl::Status EvalTfIdf(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  // Inference has checked the same attributes.
  const InferContext infer(c.node(), c.opset(), std::vector<InferInput>());
  HT_ASSIGN_OR_RETURN(const Vocabulary v, ReadVocabulary(infer));
  const std::string mode = c.attributes().String("mode", "");
  HT_ASSIGN_OR_RETURN(const Tensor x, Convert(c.input(0), DataType::kI64));
  const auto to = out->mutable_data<float>();
  std::fill(to.begin(), to.end(), 0.0f);
  const int64_t size = x.dim(x.rank() - 1);
  for (size_t row = 0; row * v.columns < to.size(); ++row) {
    float* counts = to.data() + row * v.columns;
    CountGrams(v, x.data<int64_t>().subspan(row * size, size), counts);
    for (int64_t i = 0; i < v.columns && mode != "TF"; ++i) {
      if (mode == "IDF") counts[i] = counts[i] > 0 ? 1 : 0;
      if (!v.weights.empty()) counts[i] *= v.weights[i];
    }
  }
  return absl::OkStatus();
}

constexpr std::array kRows = {OpDef{.name = "TfIdfVectorizer",
                                    .since_opset = 9,
                                    .infer = InferTfIdf,
                                    .eval = EvalTfIdf,
                                    .types = kIndexTypes,
                                    .tolerance = kExact}};

}  // namespace

absl::Span<const OpDef> TextOps() { return kRows; }

}  // namespace halftone

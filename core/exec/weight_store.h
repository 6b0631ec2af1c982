// Packed weights of one plan: each exists once, whatever the number of contexts and input shapes.
#ifndef HALFTONE_CORE_EXEC_WEIGHT_STORE_H_
#define HALFTONE_CORE_EXEC_WEIGHT_STORE_H_

#include <dnnl.hpp>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/base/buffer.h"
#include "core/exec/kernels/blocked_codes.h"
#include "core/exec/kernels/gemv/gemv.h"
#include "core/tensor/tensor.h"

namespace halftone {

class DepthwiseWeights;

// Bytes in the layout `desc`; narrow forms keep desc's element order at `stored` width (see
// lower/compute.h). Or integers with their scales: for matrix products, or in a convolution's
// order. Or what our depthwise kernel wants.
struct PackedWeights {
  std::shared_ptr<Buffer> buffer = nullptr;
  dnnl::memory::desc desc;
  std::shared_ptr<const PackedRows> rows = nullptr;
  std::shared_ptr<const BlockedCodes> blocked = nullptr;
  std::shared_ptr<const DepthwiseWeights> depthwise = nullptr;

  int64_t bytes() const;
  // Nobody else shares what it holds.
  bool unshared() const;
};

// Thread-safe. Entries live as long as the store, or, if KeepUnused says so, as long as somebody
// has what they hold.
class WeightStore {
 public:
  // The entry under `key`, or the one that `make` builds (called at most once per key, unless it
  // fails).
  absl::StatusOr<PackedWeights> GetOrMake(
      const std::string& key, const std::function<absl::StatusOr<PackedWeights>()>& make);
  // Whether entries that are made or asked for from here on stay when no program uses them.
  void KeepUnused(bool keep);
  // Of what is there; entries that are neither kept nor used leave first.
  int64_t total_bytes() const;

 private:
  struct Entry {
    PackedWeights weights;
    bool keep = true;
  };
  void Sweep() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  mutable absl::flat_hash_map<std::string, Entry> entries_ ABSL_GUARDED_BY(mu_);
  mutable int64_t total_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool keep_ ABSL_GUARDED_BY(mu_) = true;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_WEIGHT_STORE_H_

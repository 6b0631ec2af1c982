// What a Plan holds, for plan.cc (which builds it) and context.cc (which runs it).
#ifndef HALFTONE_CORE_EXEC_PLAN_IMPL_H_
#define HALFTONE_CORE_EXEC_PLAN_IMPL_H_

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "core/exec/plan.h"
#include "core/exec/program.h"
#include "core/exec/weight_store.h"
#include "core/graph/constant_bytes.h"

namespace halftone {

// Primitives divide their work among the threads that the thread which creates them has, and want
// as many when they run.
class ScopedIntraOpThreads {
 public:
  explicit ScopedIntraOpThreads(int threads);
  ScopedIntraOpThreads(const ScopedIntraOpThreads&) = delete;
  ScopedIntraOpThreads& operator=(const ScopedIntraOpThreads&) = delete;
  ~ScopedIntraOpThreads();

 private:
  const int before_;
};

// One specialisation; contexts that use it keep it alive after it left the cache.
class Specialization {
 public:
  // Rows of a batch that run together.
  struct Part {
    int64_t rows = 0;
    std::shared_ptr<const Specialization> specialization;  // has a program
  };

  explicit Specialization(std::unique_ptr<Program> program) : program_(std::move(program)) {}
  Specialization(std::vector<Part> parts, int lanes) : parts_(std::move(parts)), lanes_(lanes) {}

  // Requires: it does not run in parts.
  const Program& program() const { return *program_; }
  // Empty: it runs as a whole.
  const std::vector<Part>& parts() const { return parts_; }
  // So many threads have parts of their own (see LaneOf), whose programs are for one thread; 1: the
  // team runs one part after the other.
  int lanes() const { return lanes_; }

 private:
  const std::unique_ptr<Program> program_;
  const std::vector<Part> parts_;
  const int lanes_ = 1;
};

using SpecializationPtr = std::shared_ptr<const Specialization>;
using ShapeKey = std::string;  // and of the number of threads

// Bounded, least recently used first out.
class SpecializationCache {
 public:
  explicit SpecializationCache(size_t capacity) : capacity_(std::max<size_t>(capacity, 1)) {}

  SpecializationPtr Find(const ShapeKey& key) {
    const auto it = entries_.find(key);
    if (it == entries_.end()) return nullptr;
    order_.splice(order_.begin(), order_, it->second.position);
    return it->second.value;
  }
  void Insert(const ShapeKey& key, SpecializationPtr value) {
    if (entries_.contains(key)) return;
    order_.push_front(key);
    entries_[key] = {std::move(value), order_.begin()};
    while (entries_.size() > capacity_) {
      entries_.erase(order_.back());
      order_.pop_back();
    }
  }
  void Erase(const ShapeKey& key) {
    const auto it = entries_.find(key);
    if (it == entries_.end()) return;
    order_.erase(it->second.position);
    entries_.erase(it);
  }

 private:
  struct Entry {
    SpecializationPtr value;
    std::list<ShapeKey>::iterator position;
  };
  const size_t capacity_;
  std::list<ShapeKey> order_;  // most recently used first
  absl::flat_hash_map<ShapeKey, Entry> entries_;
};

struct PlanImpl {
  PlanImpl(Graph g, Signature s, PlanOptions o)
      : graph(std::move(g)),
        signature(std::move(s)),
        options(o),
        widen_once(ConstantBytes(graph, /*of_width=*/16) <= options.max_widened_bytes),
        cache(static_cast<size_t>(o.max_specializations)),
        other_cache(static_cast<size_t>(o.max_specializations) * kEntriesPerShape) {}

  // `threads` is never 0 here.
  absl::StatusOr<SpecializationPtr> Specialize(absl::Span<const Shape> shapes, int threads);
  void Drop(absl::Span<const Shape> shapes, int threads);
  absl::StatusOr<Graph> ConcreteGraph(absl::Span<const Shape> shapes) const;
  absl::StatusOr<SpecializationPtr> BuildLocked(absl::Span<const Shape> shapes, int threads)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu);
  absl::StatusOr<SpecializationPtr> BuildProgram(Graph concrete, int threads)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu);
  absl::StatusOr<std::vector<int64_t>> PartsOf(const Graph& whole, absl::Span<const Shape> shapes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu);
  absl::StatusOr<SpecializationPtr> PartLocked(const std::vector<Shape>& shapes, int threads)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu);
  void Insert(const ShapeKey& key, int threads, SpecializationPtr built) ABSL_LOCKS_EXCLUDED(mu);
  SpecializationCache& CacheFor(int threads) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    return threads == options.threads ? cache : other_cache;
  }

  const Graph graph;
  const Signature signature;
  const PlanOptions options;
  const bool widen_once;  // see PlanOptions::max_widened_bytes
  WeightStore weights;
  absl::Mutex build_mu;  // one specialisation is built at a time; lookups do not wait for it
  absl::Mutex mu;
  SpecializationCache cache ABSL_GUARDED_BY(mu);  // for options.threads
  // For other numbers of threads: for so many shapes in any case, parts of batches beside them.
  static constexpr size_t kEntriesPerShape = 3;
  SpecializationCache other_cache ABSL_GUARDED_BY(mu);
  int64_t inline_constant_bytes ABSL_GUARDED_BY(mu) = 0;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_PLAN_IMPL_H_

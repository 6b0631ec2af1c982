// Lending plans: resolving what is asked for, waiting, giving up.
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/model_store_impl.h"

namespace halftone {
namespace {

constexpr size_t kMaxAliases = 256;

std::string Describe(const Variant& v) {
  return absl::StrCat("model '", v.model, "' version ", v.version, ", variant '", v.text, "'");
}

}  // namespace

absl::StatusOr<VariantPtr> ModelStore::Impl::FindById(const Version& version,
                                                      const std::string& text) {
  const std::string prefix = absl::AsciiStrToLower(text);
  const std::string where =
      absl::StrCat("model '", version.stored.info.name, "' version ", version.stored.info.version);
  const auto it = version.variants.lower_bound(prefix);
  if (it == version.variants.end() || !absl::StartsWith(it->first, prefix)) {
    return absl::NotFoundError(absl::StrCat(where, ": no variant with id '", text, "'"));
  }
  const auto next = std::next(it);
  if (next != version.variants.end() && absl::StartsWith(next->first, prefix)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": several variant ids begin with '", text, "', say more digits"));
  }
  return it->second;
}

void ModelStore::Impl::Notify(CacheEvent event, const std::string& model,
                              const std::string& text) const {
  if (options_.observer.cache_event) options_.observer.cache_event(event, model, text);
}

void ModelStore::Impl::Acquire(const std::string& model, int version, const std::string& text,
                               WhenMissing policy, absl::Time deadline, AcquireCallback done) {
  std::optional<VariantHandle> handle;
  {
    absl::MutexLock lock(&mu_);
    const auto family = families_.find(model);
    if (family != families_.end()) {
      auto& versions = family->second.versions;
      const auto it = version == 0 ? std::prev(versions.end()) : versions.find(version);
      if (it != versions.end()) {
        const auto alias = it->second.aliases.find(text);
        if (alias != it->second.aliases.end() && alias->second->stage == Stage::kLoaded) {
          handle = MakeHandle(*alias->second);
        }
      }
    }
  }
  if (handle) {
    Notify(CacheEvent::kHit, handle->info().model, handle->info().spec);
    return done(*std::move(handle), false);
  }
  const absl::StatusOr<VariantPtr> v = Resolve(model, version, text);
  if (!v.ok()) return done(v.status(), false);
  Deferred after;
  {
    absl::MutexLock lock(&mu_);
    Lend(*v, policy, deadline, std::move(done), after);
  }
  after.Run();
}

absl::StatusOr<VariantPtr> ModelStore::Impl::Resolve(const std::string& model, int version,
                                                     const std::string& text) {
  absl::StatusOr<QuantSpec> spec = QuantSpec();
  if (!text.empty()) spec = QuantSpec::Parse(text);
  absl::MutexLock lock(&mu_);
  HT_ASSIGN_OR_RETURN(Version* const found, FindVersion(model, version));
  VariantPtr v;
  if (spec.ok()) {
    HT_ASSIGN_OR_RETURN(v, ResolveSpecFor(model, version, *spec));
  } else if (LooksLikeVariantId(text)) {
    HT_ASSIGN_OR_RETURN(v, FindById(*found, text));
  } else {
    return spec.status();
  }
  if (found->aliases.size() >= kMaxAliases) found->aliases.clear();
  found->aliases[text] = v;
  return v;
}

absl::StatusOr<VariantPtr> ModelStore::Impl::ResolveSpecFor(const std::string& model, int version,
                                                            const QuantSpec& spec) {
  HT_ASSIGN_OR_RETURN(Family* const family, FindFamily(model));
  HT_ASSIGN_OR_RETURN(Version* const found, FindVersion(model, version));
  if (IsOriginal(spec)) return found->original;
  HT_ASSIGN_OR_RETURN(
      ResolvedVariant resolved,
      ResolveVariant(found->stored.info.digest, family->Sets(), engine_.isa_class, spec));
  VariantPtr& v = found->variants[resolved.id];
  if (v != nullptr) return v;
  v = std::make_shared<Variant>();
  v->id = resolved.id;
  v->model = model;
  v->version = found->stored.info.version;
  v->text = std::move(resolved.text);
  v->spec = std::move(resolved.spec);
  if (resolved.calibration) v->calibration_digest = resolved.calibration->digest;
  v->folder = repository_->VariantFolder(model, v->version, v->id);
  v->created = clock_.Now();
  return v;
}

VariantHandle ModelStore::Impl::MakeHandle(Variant& v) {
  v.last_used = ++tick_;
  // Shares the lease and points at the plan: alive together.
  return VariantHandle(std::shared_ptr<const Plan>(v.lease, v.lease->plan.get()), InfoOf(v));
}

void ModelStore::Impl::Want(const VariantPtr& v) {
  if (v->stage == Stage::kLoaded) return;
  if (v->stage == Stage::kAbsent) StartBuild(v);
  if (v->flight != nullptr) v->flight->keep = true;
  if (!v->wanted) v->wanted_since = ++tick_;
  v->wanted = true;
  PokeLoadLane();
}

void ModelStore::Impl::AddWaiter(const VariantPtr& v, absl::Time deadline, AcquireCallback done,
                                 bool fell_back) {
  const uint64_t id = ++tick_;
  const DeadlineQueue::Ticket ticket = deadlines_.Add(deadline, [this, v, id] { Expire(v, id); });
  v->waiters.push_back(
      {.id = id, .ticket = ticket, .done = std::move(done), .fell_back = fell_back});
}

void ModelStore::Impl::Lend(const VariantPtr& v, WhenMissing policy, absl::Time deadline,
                            AcquireCallback done, Deferred& after) {
  const auto answer = [&](absl::StatusOr<VariantHandle> result, bool fell_back) {
    after.Call([done = std::move(done), result = std::move(result), fell_back]() mutable {
      done(std::move(result), fell_back);
    });
  };
  if (stopping_) return answer(absl::UnavailableError("the store is shutting down"), false);
  if (v->removed)
    return answer(absl::NotFoundError(absl::StrCat(Describe(*v), ": deleted")), false);
  const bool hit = v->stage == Stage::kLoaded;
  after.Call([this, hit, model = v->model, text = v->text] {
    Notify(hit ? CacheEvent::kHit : CacheEvent::kMiss, model, text);
  });
  if (hit) return answer(MakeHandle(*v), false);
  Want(v);
  switch (policy) {
    case WhenMissing::kWait:
      return AddWaiter(v, deadline, std::move(done), false);
    case WhenMissing::kUnavailable:
      return answer(
          absl::UnavailableError(absl::StrCat(Describe(*v), v->stage == Stage::kBuilding
                                                                ? ": is being built, try again"
                                                                : ": is being loaded, try again")),
          false);
    case WhenMissing::kFallback: {
      const absl::StatusOr<Version*> version = FindVersion(v->model, v->version);
      if (!version.ok()) return answer(version.status(), false);
      const VariantPtr& original = (*version)->original;
      if (original->stage == Stage::kLoaded) return answer(MakeHandle(*original), true);
      // Loading the variant itself takes no longer than loading fp32 would.
      if (v->stage == Stage::kStored) return AddWaiter(v, deadline, std::move(done), false);
      Want(original);
      return AddWaiter(original, deadline, std::move(done), true);
    }
  }
}

void ModelStore::Impl::AnswerWaiters(Variant& v, Deferred& after) {
  for (Waiter& waiter : v.waiters) {
    deadlines_.Cancel(waiter.ticket);
    after.Call([done = std::move(waiter.done), handle = MakeHandle(v),
                fell_back = waiter.fell_back]() mutable { done(std::move(handle), fell_back); });
  }
  v.waiters.clear();
}

void ModelStore::Impl::FailWaiters(Variant& v, const absl::Status& why, Deferred& after) {
  for (Waiter& waiter : v.waiters) {
    deadlines_.Cancel(waiter.ticket);
    after.Call([done = std::move(waiter.done), why] { done(why, false); });
  }
  v.waiters.clear();
}

void ModelStore::Impl::Expire(const VariantPtr& v, uint64_t waiter_id) {
  AcquireCallback done;
  std::string message;
  {
    absl::MutexLock lock(&mu_);
    for (auto it = v->waiters.begin(); it != v->waiters.end(); ++it) {
      if (it->id != waiter_id) continue;
      done = std::move(it->done);
      v->waiters.erase(it);
      message = absl::StrCat(Describe(*v), ": still being ",
                             v->stage == Stage::kBuilding ? "built" : "loaded",
                             " at the deadline; it goes on in the background");
      break;
    }
  }
  if (done) done(absl::DeadlineExceededError(message), false);
}

}  // namespace halftone

#include "core/store/bundle.h"

#include <utility>

#include "core/base/status_macros.h"

namespace halftone {
namespace {

using nlohmann::json;

constexpr int64_t kMaxManifestBytes = int64_t{64} << 20;
constexpr int kFormat = 1;

// Names that are not UTF-8 must not throw.
std::string Dump(const json& value) {
  return value.dump(1, ' ', false, json::error_handler_t::replace);
}

absl::Status Damaged(const std::string& folder, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(folder, ": ", what));
}

std::string ParentOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

absl::StatusOr<Manifest> ParseManifest(const std::string& folder, absl::string_view text) {
  json parsed = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return Damaged(folder, "the manifest is not JSON");
  const json checksum = parsed.value("checksum", json());
  parsed.erase("checksum");
  if (checksum != Sha256Hex(Dump(parsed))) return Damaged(folder, "the manifest was changed");
  try {
    if (parsed.at("halftone_bundle") != kFormat) {
      return Damaged(folder, "the manifest has another format");
    }
    Manifest manifest;
    manifest.fields = parsed.at("fields");
    for (const json& file : parsed.at("files")) {
      manifest.files.push_back(
          {.name = file.at("name"), .bytes = file.at("bytes"), .sha256 = file.at("sha256")});
    }
    return manifest;
  } catch (const json::exception& e) {
    return Damaged(folder, e.what());
  }
}

}  // namespace

int64_t Manifest::bytes() const {
  int64_t sum = 0;
  for (const BundleFile& file : files) sum += file.bytes;
  return sum;
}

BundleWriter::BundleWriter(FileSystem& files, std::string temporary)
    : files_(files), temporary_(std::move(temporary)) {}

absl::StatusOr<std::unique_ptr<BundleWriter>> BundleWriter::Create(FileSystem& files,
                                                                   std::string temporary) {
  HT_RETURN_IF_ERROR(files.MakeFolders(temporary));
  return std::unique_ptr<BundleWriter>(new BundleWriter(files, std::move(temporary)));
}

BundleWriter::~BundleWriter() {
  open_.reset();
  // What cannot be removed now is removed when the store opens next.
  if (!committed_) files_.RemoveAll(temporary_).IgnoreError();
}

absl::Status BundleWriter::Append(const std::string& name, absl::string_view bytes) {
  if (open_ == nullptr || current_.name != name) {
    HT_RETURN_IF_ERROR(FinishFile());
    HT_ASSIGN_OR_RETURN(open_, files_.OpenForAppend(JoinPath(temporary_, name)));
    current_ = {.name = name};
    hash_.emplace();
  }
  HT_RETURN_IF_ERROR(open_->Append(bytes));
  hash_->Update(bytes);
  current_.bytes += static_cast<int64_t>(bytes.size());
  return absl::OkStatus();
}

absl::Status BundleWriter::FinishFile() {
  if (open_ == nullptr) return absl::OkStatus();
  HT_RETURN_IF_ERROR(open_->Sync());
  open_.reset();
  current_.sha256 = hash_->HexDigest();
  done_.push_back(std::move(current_));
  return absl::OkStatus();
}

int64_t BundleWriter::bytes() const {
  int64_t sum = open_ == nullptr ? 0 : current_.bytes;
  for (const BundleFile& file : done_) sum += file.bytes;
  return sum;
}

absl::Status BundleWriter::Seal(const json& fields) {
  HT_RETURN_IF_ERROR(FinishFile());
  json manifest = {{"halftone_bundle", kFormat}, {"files", json::array()}, {"fields", fields}};
  for (const BundleFile& file : done_) {
    manifest["files"].push_back(
        {{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  manifest["checksum"] = Sha256Hex(Dump(manifest));
  HT_RETURN_IF_ERROR(WriteNewFile(files_, JoinPath(temporary_, kManifestName), Dump(manifest)));
  return files_.SyncFolder(temporary_);
}

absl::Status BundleWriter::Commit(const std::string& target) {
  const std::string parent = ParentOf(target);
  if (!files_.Exists(parent)) {
    HT_RETURN_IF_ERROR(files_.MakeFolders(parent));
    HT_RETURN_IF_ERROR(files_.SyncFolder(ParentOf(parent)));
  }
  HT_RETURN_IF_ERROR(files_.Rename(temporary_, target));
  committed_ = true;
  const absl::Status synced = files_.SyncFolder(parent);
  // Failed means absent: what is there after a reported failure would block the next attempt.
  if (!synced.ok()) files_.RemoveAll(target).IgnoreError();
  return synced;
}

absl::StatusOr<Manifest> ReadManifest(const FileSystem& files, const std::string& folder) {
  const auto text = ReadFile(files, JoinPath(folder, kManifestName), kMaxManifestBytes);
  if (absl::IsNotFound(text.status())) return Damaged(folder, text.status().message());
  HT_RETURN_IF_ERROR(text.status());
  HT_ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(folder, *text));
  for (const BundleFile& want : manifest.files) {
    const auto bytes = files.FileSize(JoinPath(folder, want.name));
    if (!bytes.ok()) return Damaged(folder, bytes.status().message());
    if (*bytes != want.bytes) {
      return Damaged(folder, absl::StrCat(want.name, " has ", *bytes, " bytes, want ", want.bytes));
    }
  }
  return manifest;
}

absl::Status VerifyDigests(const FileSystem& files, const std::string& folder,
                           const Manifest& manifest) {
  for (const BundleFile& file : manifest.files) {
    HT_ASSIGN_OR_RETURN(const std::string got, FileSha256(files, JoinPath(folder, file.name)));
    if (got != file.sha256) {
      return Damaged(folder, absl::StrCat(file.name, " has SHA-256 ", got, ", want ", file.sha256));
    }
  }
  return absl::OkStatus();
}

}  // namespace halftone

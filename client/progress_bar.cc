#include "client/progress_bar.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace halftone {
namespace {

constexpr int kWidth = 30;  // of the bar, in characters
constexpr absl::string_view kClearLine = "\r\x1b[K";

}  // namespace

ProgressBar::~ProgressBar() {
  if (enabled_ && terminal_ && !shown_.empty()) out_ << "\n" << std::flush;
}

void ProgressBar::Update(double fraction, absl::string_view stage, absl::string_view detail) {
  if (!enabled_) return;
  fraction = std::clamp(fraction, 0.0, 1.0);
  const int percent = static_cast<int>(fraction * 100);
  if (!terminal_) {
    if (stage == shown_) return;
    shown_ = std::string(stage);
    out_ << label_ << ": " << stage << " (" << percent << " %)\n" << std::flush;
    return;
  }
  const int filled = static_cast<int>(fraction * kWidth);
  std::string line = absl::StrFormat("%s [%s%s] %3d %%  %s%s%s", label_, std::string(filled, '#'),
                                     std::string(kWidth - filled, '.'), percent, stage,
                                     detail.empty() ? "" : " ", detail);
  if (line == shown_) return;
  shown_ = std::move(line);
  out_ << kClearLine << shown_ << std::flush;
}

void ProgressBar::Finish(absl::string_view message) {
  if (!enabled_) return;
  if (terminal_) out_ << kClearLine;
  out_ << label_ << ": " << message << "\n" << std::flush;
  shown_.clear();
}

}  // namespace halftone

// How far a long step is, on the error stream: a bar that redraws itself on a terminal, elsewhere
// one line per stage, so that a log shows it too.
//
//   ProgressBar bar(std::cerr, isatty(2), "upload");
//   bar.Update(0.4, "model.onnx");
//   bar.Finish("done");
//
// Thread-compatible.
#ifndef HALFTONE_CLIENT_PROGRESS_BAR_H_
#define HALFTONE_CLIENT_PROGRESS_BAR_H_

#include <ostream>
#include <string>

#include "absl/strings/string_view.h"

namespace halftone {

class ProgressBar {
 public:
  // `enabled` false: writes nothing.
  ProgressBar(std::ostream& out, bool terminal, std::string label, bool enabled = true)
      : out_(out), terminal_(terminal), enabled_(enabled), label_(std::move(label)) {}
  // An unfinished bar leaves its line, so that an error message starts a new one.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `fraction` from 0 to 1. Off a terminal a line is written when `stage` changes.
  void Update(double fraction, absl::string_view stage, absl::string_view detail = "");
  void Finish(absl::string_view message);

 private:
  std::ostream& out_;
  const bool terminal_;
  const bool enabled_;
  const std::string label_;
  std::string shown_;  // what the terminal's line or the last log line says
};

}  // namespace halftone

#endif  // HALFTONE_CLIENT_PROGRESS_BAR_H_

// Compiled kernels on disk: $HORNBEAM_HOME/kernels, else ~/.hornbeam/kernels. A folder that others
// can write to, or that another user owns (but root), is not used.
//
// A file holds its whole key, so two keys with one name cannot be taken for each other, and a hash
// over all, so a damaged one is not used. Files are written beside and renamed: readers and other
// writers see none or a whole one. Together they stay below HORNBEAM_KERNEL_FILES bytes (256 MiB if
// it is not set; 0: no files), the ones used longest ago go first. Every failure only costs time.
#pragma once
#include <stdint.h>

#include <optional>
#include <string>

namespace hb::cuda {

class KernelFiles {
 public:
  KernelFiles();  // as the environment says
  std::optional<std::string> load(const std::string& key) const;
  void store(const std::string& key, const std::string& code) const;

 private:
  std::string path_of(const std::string& key) const;
  void make_room() const;
  std::string folder_;  // empty: no files
  uint64_t limit_;
};

}  // namespace hb::cuda

// The versions of the libraries that the program runs with.
#pragma once

#include <string>

namespace llmrun {

// As "name version, ...; ...": of shared libraries what is loaded, of headers what it was built
// with. Those that know no version of their own (sentencepiece) are left out.
std::string library_versions();

}  // namespace llmrun
